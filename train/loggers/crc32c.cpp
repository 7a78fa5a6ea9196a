#include "train/loggers/crc32c.h"

#include <array>
#include <cstddef>

namespace vrwkv::train {
namespace {

/// The remainder of each byte. A table, as the distributions package no library for this alone (Abseil's is newer than
/// theirs, Boost's would be 150 MB to install), and a run writes a few hundred bytes a step at most.
constexpr std::array<uint32_t, 256> byte_remainders() {
  std::array<uint32_t, 256> table{};
  for (uint32_t byte = 0; byte < table.size(); ++byte) {
    uint32_t remainder = byte;
    for (int bit = 0; bit < 8; ++bit) remainder = (remainder >> 1) ^ ((remainder & 1) != 0 ? 0x82F63B78U : 0U);
    table[byte] = remainder;
  }
  return table;
}

constexpr std::array<uint32_t, 256> kRemainders = byte_remainders();

}  // namespace

uint32_t crc32c(std::string_view data) {
  uint32_t crc = 0xFFFFFFFFU;
  for (const char c : data) crc = (crc >> 8) ^ kRemainders[(crc ^ static_cast<unsigned char>(c)) & 0xFFU];
  return ~crc;
}

}  // namespace vrwkv::train

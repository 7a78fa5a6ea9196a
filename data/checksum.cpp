#include "data/checksum.h"

#include <zlib.h>

#include <iomanip>
#include <sstream>

namespace vrwkv::data {

std::uint32_t crc32(std::span<const std::uint8_t> bytes, std::uint32_t before) {
  return static_cast<std::uint32_t>(::crc32_z(before, bytes.data(), bytes.size()));
}

std::string crc32_text(std::uint32_t sum) {
  std::ostringstream text;
  text << std::hex << std::setfill('0') << std::setw(8) << sum;
  return text.str();
}

}  // namespace vrwkv::data

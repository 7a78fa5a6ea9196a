#include "data/baseline_jpeg.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <string_view>

namespace vrwkv::data {
namespace {

using Bytes = std::span<const std::uint8_t>;

// ITU-T T.81, table B.1.
constexpr int kStartOfImage = 0xD8, kEndOfImage = 0xD9, kBaselineFrame = 0xC0, kHuffmanTables = 0xC4;
constexpr int kStartOfScan = 0xDA, kJfif = 0xE0, kAdobe = 0xEE;

constexpr std::size_t kComponents = 3;

bool begins_with(Bytes segment, std::string_view text) {
  return segment.size() >= text.size() &&
         std::equal(text.begin(), text.end(), segment.begin(), [](char a, std::uint8_t b) { return a == char(b); });
}

/// Of the frame header behind its length: precision, height, width, number of components, then id, sampling and
/// quantization table of each.
bool has_plain_frame(Bytes frame) {
  if (frame.size() != 6 + 3 * kComponents || frame[0] != 8 || frame[5] != kComponents) return false;
  const auto sampling = [&](std::size_t i) { return frame[7 + 3 * i]; };
  const bool plain_ids = frame[6] == 1 && frame[9] == 2 && frame[12] == 3;
  const bool plain_luma = sampling(0) == 0x11 || sampling(0) == 0x21 || sampling(0) == 0x12 || sampling(0) == 0x22;
  return plain_ids && plain_luma && sampling(1) == 0x11 && sampling(2) == 0x11;
}

}  // namespace

bool is_baseline_jpeg(Bytes bytes) {
  const auto marker = [&](std::size_t at) { return bytes[at] == 0xFF ? int{bytes[at + 1]} : -1; };
  if (bytes.size() < 4 || marker(0) != kStartOfImage || marker(bytes.size() - 2) != kEndOfImage) return false;
  bool framed = false, jfif = false, stored_rgb = false;
  for (std::size_t at = 2; at + 4 <= bytes.size();) {
    const int found = marker(at);
    const std::size_t length = 256U * bytes[at + 2] + bytes[at + 3];
    if (found < 0 || length < 2 || at + 2 + length > bytes.size()) return false;
    const Bytes segment = bytes.subspan(at + 4, length - 2);
    if (found == kStartOfScan) {
      return framed && (jfif || !stored_rgb) && !segment.empty() && segment[0] == kComponents;
    }
    if (found == kBaselineFrame) {
      if (framed || !has_plain_frame(segment)) return false;
      framed = true;
    } else if (found > kBaselineFrame && found < kStartOfImage && found != kHuffmanTables) {
      return false;  // Another kind of frame, arithmetic coding, or a marker that belongs into a scan.
    }
    jfif = jfif || (found == kJfif && begins_with(segment, "JFIF"));
    // Adobe's last byte says how colours are stored: 1 is YCbCr.
    if (found == kAdobe && begins_with(segment, "Adobe") && segment.size() >= 12) stored_rgb = segment[11] != 1;
    at += 2 + length;
  }
  return false;
}

}  // namespace vrwkv::data

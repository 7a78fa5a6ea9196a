#pragma once

#include <cstdint>
#include <span>

namespace vrwkv::data {

/// Whether `bytes` are a JPEG of the plainest kind, which decoders in hardware take: sequential Huffman coding of 8
/// bits (SOF0), YCbCr in one scan, colours at full or half resolution, an end marker as its last bytes. Looks at the
/// markers alone; false for anything else, damaged bytes among it.
bool is_baseline_jpeg(std::span<const std::uint8_t> bytes);

}  // namespace vrwkv::data

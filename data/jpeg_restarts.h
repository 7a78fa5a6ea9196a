#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace vrwkv::data {

/// The JPEG `bytes` coded anew with restart markers, so that cut_jpeg() can take parts of it: the same coefficients in
/// one pass of Huffman coding with tables of its own, hence the same pixels to the bit, whether the original is
/// progressive or not. Metadata (EXIF, colour profiles) is left out, as decode_image() ignores it. Nothing for what
/// should be kept as it is: bytes that are no JPEG, a JPEG of four components (CMYK), and one that is damaged in any
/// way.
std::optional<std::vector<std::uint8_t>> with_restarts(std::span<const std::uint8_t> bytes);

}  // namespace vrwkv::data

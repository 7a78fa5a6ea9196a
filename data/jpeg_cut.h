#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "data/box.h"

namespace vrwkv::data {

/// A JPEG that shows a part of another one.
struct JpegCut {
  std::vector<std::uint8_t> bytes;
  Box box;  ///< The wanted part within it.
};

/// A JPEG of the blocks around `box`, a rectangle within the image `bytes`, put together from the pieces between its
/// restart markers without decoding anything; the pixels of JpegCut::box are those of `box` to the bit. Nothing where
/// that cannot be done: no restart markers (which the header tells, so that nothing is searched), pieces that do not
/// divide the rows of blocks, more than one scan, progressive or arithmetic coding, or damage that shows in the markers
/// down to the lower edge of the box.
std::optional<JpegCut> cut_jpeg(std::span<const std::uint8_t> bytes, const Box& box);

}  // namespace vrwkv::data

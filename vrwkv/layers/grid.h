#pragma once

#include <cstdint>

namespace vrwkv {

/// The patch grid of an image: tokens are numbered row by row.
struct Grid {
  int64_t height, width;
  int64_t tokens() const { return height * width; }
};

}  // namespace vrwkv

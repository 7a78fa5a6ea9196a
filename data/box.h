#pragma once

#include <cstdint>

namespace vrwkv::data {

/// A rectangle of an image, in pixels.
struct Box {
  int64_t top = 0;
  int64_t left = 0;
  int64_t height = 0;
  int64_t width = 0;

  bool operator==(const Box&) const = default;
};

}  // namespace vrwkv::data

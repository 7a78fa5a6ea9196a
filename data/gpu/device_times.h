#pragma once

#include <cstdint>

namespace vrwkv::data::gpu {

/// What a GPU has done for training samples, and how long its queues took: seconds of all groups together, which
/// overlap.
struct DeviceTimes {
  int64_t images = 0;
  int64_t decoded = 0;  ///< Of these, by nvJPEG.
  double decode_seconds = 0;
  double resize_seconds = 0;
  double augment_seconds = 0;
};

}  // namespace vrwkv::data::gpu

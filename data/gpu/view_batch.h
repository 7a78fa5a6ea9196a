#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>

#include "data/transforms.h"

namespace vrwkv::data::gpu {

/// Where a training view comes from and goes to, in the device's memory.
struct DeviceView {
  const std::uint8_t* pixels = nullptr;  ///< The upper left pixel of the view's box, 3 bytes a pixel (R, G, B).
  int64_t stride = 0;                    ///< Bytes from a row to the next.
  const TrainView* view = nullptr;
  std::uint8_t* target = nullptr;  ///< [size, size, 3]
};

/// make_train_view() of several images at once, on a GPU. The operations give exactly the pixels of the CPU's; the
/// resize differs from it by at most two levels (one in most images), and what follows from that.
/// All work is queued on the stream that is current when the object is made, which must be done before it is destroyed.
class ViewBatch {
 public:
  /// Brings what was drawn to `device`; the views themselves are not needed afterwards. At least one view.
  ViewBatch(std::span<const DeviceView> views, int64_t size, at::Device device);

  /// Crop, resize and flip.
  void resize() const;

  /// The operations, after resize().
  void augment() const;

 private:
  int count_ = 0, augmented_ = 0, max_height_ = 0, size_ = 0;
  at::Tensor tasks_, images_, operations_;  ///< Bytes: ViewTask, ImageTask of images with operations, ImageOperation.
  at::Tensor narrow_, spare_;               ///< Bytes: between the two passes of the resize, between operations.
};

}  // namespace vrwkv::data::gpu

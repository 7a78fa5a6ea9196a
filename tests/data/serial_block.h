#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <utility>
#include <vector>

#include "data/gpu/augment_image.h"
#include "data/gpu/image_operations.h"
#include "data/gpu/resample.h"
#include "data/transforms.h"

/// The kernels of data/gpu on the CPU, thread after thread.
namespace vrwkv::data::testing {

/// A block of one thread, as augment_image() wants one.
struct SerialBlock {
  template <class Work>
  void each(int count, const Work& work) const {
    for (int i = 0; i < count; ++i) work(i);
  }
  void add(unsigned& counter) const { ++counter; }
  template <class Term>
  void sum(unsigned long long& total, int count, const Term& term) const {
    total = 0;
    for (int i = 0; i < count; ++i) total += term(i);
  }
};

/// `operations` on a square image by the kernels' arithmetic.
inline at::Tensor augment_serially(const at::Tensor& image, const std::vector<augment::DrawnOperation>& operations) {
  at::Tensor pixels = image.clone(), other = at::empty_like(image);
  std::vector<gpu::ImageOperation> worked_out;
  int moved = 0;
  for (const augment::DrawnOperation& drawn : operations) {
    worked_out.push_back(gpu::image_operation(drawn, image.size(0)));
    moved += gpu::moves(drawn.kind);
  }
  gpu::Shared shared;
  gpu::augment_image(SerialBlock{}, shared, worked_out.data(), static_cast<int>(worked_out.size()),
                     static_cast<int>(image.size(0)), pixels.mutable_data_ptr<std::uint8_t>(),
                     other.mutable_data_ptr<std::uint8_t>());
  return moved % 2 == 0 ? pixels : other;
}

/// make_train_view() of the pixels of the view's box by the kernels' arithmetic.
inline at::Tensor make_view_serially(const at::Tensor& pixels, const TrainView& view, int64_t size) {
  const at::Tensor narrow = at::empty({pixels.size(0), size, 3}, at::kByte);
  const at::Tensor target = at::empty({size, size, 3}, at::kByte);
  const auto side = static_cast<int>(size);
  const gpu::ViewTask task{pixels.const_data_ptr<std::uint8_t>(),
                           3 * pixels.size(1),
                           narrow.mutable_data_ptr<std::uint8_t>(),
                           target.mutable_data_ptr<std::uint8_t>(),
                           static_cast<int>(pixels.size(0)),
                           static_cast<int>(pixels.size(1)),
                           side,
                           static_cast<int>(view.top),
                           static_cast<int>(view.left),
                           view.flip};
  for (int i = 0; i < task.height * side; ++i) gpu::narrow_pixel(task, i);
  for (int i = 0; i < side * side; ++i) gpu::finish_pixel(task, i);
  return augment_serially(target, view.operations);
}

}  // namespace vrwkv::data::testing

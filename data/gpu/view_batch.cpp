#include "data/gpu/view_batch.h"

#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAStream.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "data/gpu/image_operations.h"
#include "data/gpu/kernels.h"

namespace vrwkv::data::gpu {
namespace {

constexpr int64_t kChannels = 3;

at::Tensor bytes_on(at::Device device, int64_t count) {
  return at::empty({count}, at::TensorOptions().dtype(at::kByte).device(device));
}

/// `items` as bytes on the device.
template <class Item>
at::Tensor upload(const std::vector<Item>& items, at::Device device) {
  const auto count = static_cast<int64_t>(items.size() * sizeof(Item));
  const at::Tensor host = at::empty({count}, at::TensorOptions().dtype(at::kByte).pinned_memory(true));
  std::memcpy(host.mutable_data_ptr(), items.data(), static_cast<std::size_t>(count));
  return host.to(device, /*non_blocking=*/true);
}

template <class Item>
const Item* items_of(const at::Tensor& bytes) {
  return static_cast<const Item*>(bytes.const_data_ptr());
}

}  // namespace

ViewBatch::ViewBatch(std::span<const DeviceView> views, int64_t size, at::Device device)
    : count_(static_cast<int>(views.size())), size_(static_cast<int>(size)) {
  const int64_t image_bytes = size * size * kChannels;
  int64_t narrow_bytes = 0, changed = 0;
  for (const DeviceView& view : views) {
    narrow_bytes += view.view->box.height * size * kChannels;
    changed += view.view->operations.empty() ? 0 : 1;
  }
  narrow_ = bytes_on(device, narrow_bytes);
  spare_ = bytes_on(device, changed * image_bytes);
  auto* narrow = narrow_.mutable_data_ptr<std::uint8_t>();
  auto* spare = spare_.mutable_data_ptr<std::uint8_t>();

  std::vector<ViewTask> tasks;
  std::vector<ImageTask> images;
  std::vector<ImageOperation> operations;
  for (const auto& [pixels, stride, view, target] : views) {
    std::uint8_t* resized = target;
    if (!view->operations.empty()) {
      ImageTask image{target, spare, static_cast<int>(operations.size()), static_cast<int>(view->operations.size())};
      int moved = 0;
      for (const augment::DrawnOperation& drawn : view->operations) {
        operations.push_back(image_operation(drawn, size));
        moved += moves(drawn.kind);
      }
      if (moved % 2 != 0) std::swap(image.pixels, image.other);  // So that it ends in `target`.
      resized = image.pixels;
      images.push_back(image);
      spare += image_bytes;
    }
    const auto height = static_cast<int>(view->box.height);
    tasks.push_back({pixels, stride, narrow, resized, height, static_cast<int>(view->box.width), size_,
                     static_cast<int>(view->top), static_cast<int>(view->left), view->flip});
    narrow += view->box.height * size * kChannels;
    max_height_ = std::max(max_height_, height);
  }
  augmented_ = static_cast<int>(images.size());
  tasks_ = upload(tasks, device);
  if (augmented_ > 0) {
    images_ = upload(images, device);
    operations_ = upload(operations, device);
  }
}

void ViewBatch::resize() const {
  launch_resize(items_of<ViewTask>(tasks_), count_, max_height_, size_, c10::cuda::getCurrentCUDAStream());
}

void ViewBatch::augment() const {
  if (augmented_ == 0) return;
  launch_augment(items_of<ImageTask>(images_), items_of<ImageOperation>(operations_), augmented_, size_,
                 c10::cuda::getCurrentCUDAStream());
}

}  // namespace vrwkv::data::gpu

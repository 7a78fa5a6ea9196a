#include "data/transforms.h"

#include <ATen/ATen.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "data/augment/policies.h"
#include "data/resize.h"

namespace vrwkv::data {
namespace {

constexpr int kBoxTries = 10;

}  // namespace

Box random_resized_box(int64_t height, int64_t width, const TrainTransformOptions& options, Generator& generator) {
  const auto rows = static_cast<double>(height);
  const auto columns = static_cast<double>(width);
  for (int attempt = 0; attempt < kBoxTries; ++attempt) {
    const double area = rows * columns * generator.uniform(options.scale[0], options.scale[1]);
    const double aspect = std::exp(generator.uniform(std::log(options.ratio[0]), std::log(options.ratio[1])));
    const int64_t box_width = std::llrint(std::sqrt(area * aspect));
    const int64_t box_height = std::llrint(std::sqrt(area / aspect));
    if (box_width > 0 && box_width <= width && box_height > 0 && box_height <= height) {
      const int64_t top = generator.integer(height - box_height + 1);
      const int64_t left = generator.integer(width - box_width + 1);
      return {top, left, box_height, box_width};
    }
  }
  Box box{0, 0, height, width};
  if (columns / rows < options.ratio[0]) {
    box.height = std::clamp<int64_t>(std::llrint(columns / options.ratio[0]), 1, height);
  } else if (columns / rows > options.ratio[1]) {
    box.width = std::clamp<int64_t>(std::llrint(rows * options.ratio[1]), 1, width);
  }
  box.top = (height - box.height) / 2;
  box.left = (width - box.width) / 2;
  return box;
}

TrainView draw_train_view(int64_t height, int64_t width, const TrainTransformOptions& options, Generator& generator) {
  TrainView view;
  view.box = options.crop == TrainCrop::random_resized ? random_resized_box(height, width, options, generator)
                                                       : Box{0, 0, height, width};
  if (options.crop == TrainCrop::pad) {
    view.top = generator.integer(2 * options.padding + 1) - options.padding;
    view.left = generator.integer(2 * options.padding + 1) - options.padding;
  }
  view.flip = generator.uniform() < options.hflip;
  Generator augment = generator.branch(RandomStream::augment);
  view.operations = augment::draw_augmentation(options, augment);
  return view;
}

void reduce_view(TrainView& view, int64_t height, int64_t width, int64_t size) {
  constexpr int64_t kMost = 8;
  Box& box = view.box;
  while (view.reduction < kMost && std::min(box.height, box.width) >= 2 * view.reduction * size) view.reduction *= 2;
  const int64_t unit = view.reduction;
  const auto round_side = [unit](int64_t& begin, int64_t& length, int64_t all) {
    const int64_t units = all / unit;  // Whole ones: enough for `length`, which lies within `all`.
    length = std::min((length + unit / 2) / unit, units);
    begin = std::min((begin + unit / 2) / unit, units - length);
    length *= unit;
    begin *= unit;
  };
  round_side(box.top, box.height, height);
  round_side(box.left, box.width, width);
}

at::Tensor make_train_view(const at::Tensor& pixels, const TrainView& view, int64_t size) {
  const at::Tensor cropped = crop(resize(pixels, size, size), view.top, view.left, size, size);
  return augment::apply_operations(view.flip ? hflip(cropped) : cropped, view.operations);
}

TrainView draw_train_view(const ImageSource& image, const TrainTransformOptions& options, Generator& generator) {
  TrainView view = draw_train_view(image.height(), image.width(), options, generator);
  if (options.reduced_decode && options.crop == TrainCrop::random_resized && image.reduces()) {
    reduce_view(view, image.height(), image.width(), options.size);
  }
  return view;
}

at::Tensor view_pixels(const ImageSource& image, const TrainView& view, const TrainTransformOptions& options) {
  return options.crop == TrainCrop::random_resized ? image.part(view.box, view.reduction) : image.whole();
}

at::Tensor train_view(const ImageSource& image, const TrainTransformOptions& options, Generator& generator) {
  const TrainView view = draw_train_view(image, options, generator);
  return make_train_view(view_pixels(image, view, options), view, options.size);
}

at::Tensor eval_view(const ImageSource& image, const EvalTransformOptions& options) {
  if (options.mode == ResizeMode::stretch)
    return resize(image.whole(), options.size, options.size, options.interpolation);
  return center_crop(resize_short_side(image.whole(), options.resize, options.interpolation), options.size);
}

Transform train_transform(const TrainTransformOptions& options) {
  return {options.size,
          [options](const ImageSource& image, Generator& generator) { return train_view(image, options, generator); }};
}

Transform eval_transform(const EvalTransformOptions& options) {
  return {options.size,
          [options](const ImageSource& image, Generator& /*generator*/) { return eval_view(image, options); }};
}

at::Tensor normalize(const at::Tensor& images, const NormalizeOptions& options, at::ScalarType dtype) {
  TORCH_CHECK(images.scalar_type() == at::kByte && images.dim() == 4 && images.size(3) == 3,
              "normalize: images must be uint8 [B, H, W, 3], got ", images.scalar_type(), " ", images.sizes());
  const at::ScalarType compute = dtype == at::kDouble ? at::kDouble : at::kFloat;
  // Filled in place: a copy from the host would make it wait for the device.
  const auto per_channel = [&](const std::array<double, 3>& values) {
    at::Tensor tensor = at::empty({3, 1, 1}, images.options().dtype(compute));
    for (int64_t c = 0; c < 3; ++c) {
      tensor.select(0, c).fill_(values[static_cast<std::size_t>(c)]);
    }
    return tensor;
  };
  at::Tensor values =
      images.permute({0, 3, 1, 2}).to(compute, /*non_blocking=*/false, /*copy=*/false, at::MemoryFormat::Contiguous);
  return values.sub_(per_channel(options.mean)).div_(per_channel(options.std)).to(dtype);
}

at::Tensor grey_levels(const at::Tensor& images, const NormalizeOptions& options) {
  const at::Tensor mean = at::tensor(options.mean, at::kFloat), std = at::tensor(options.std, at::kFloat);
  return (images.cpu().to(at::kFloat).permute({0, 2, 3, 1}) * std + mean).round().clamp(0, 255).to(at::kByte);
}

}  // namespace vrwkv::data

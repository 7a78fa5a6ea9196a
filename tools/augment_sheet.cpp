#include "tools/augment_sheet.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <numeric>

#include "data/batch_augment/augment_batch.h"
#include "data/resize.h"
#include "data/transforms.h"

namespace vrwkv::tools {
namespace {

constexpr int64_t kMargin = 4;
constexpr int64_t kMarginLevel = 255;

/// The image with its long side brought to `size`, in a square of the margin's colour.
at::Tensor fitted(const at::Tensor& image, int64_t size) {
  const int64_t longer = std::max(image.size(0), image.size(1));
  const auto scaled = [&](int64_t side) { return std::max<int64_t>(1, side * size / longer); };
  const at::Tensor small = data::resize(image, scaled(image.size(0)), scaled(image.size(1)));
  at::Tensor square = at::full({size, size, 3}, kMarginLevel, at::kByte);
  square.narrow(0, (size - small.size(0)) / 2, small.size(0))
      .narrow(1, (size - small.size(1)) / 2, small.size(1))
      .copy_(small);
  return square;
}

/// Normalised images floating point [B, 3, S, S] back to levels: uint8 [B, S, S, 3].
at::Tensor levels(const at::Tensor& images, const data::NormalizeOptions& options) {
  const at::Tensor mean = at::tensor(options.mean, at::kFloat), std = at::tensor(options.std, at::kFloat);
  return (images.permute({0, 2, 3, 1}) * std + mean).round().clamp(0, 255).to(at::kByte);
}

/// The images as epoch `epoch` would show them, uint8 [B, S, S, 3].
at::Tensor views_of(const std::vector<at::Tensor>& images, const data::DataOptions& options, std::uint64_t seed,
                    int64_t epoch) {
  std::vector<at::Tensor> views;
  for (std::size_t i = 0; i < images.size(); ++i) {
    data::Generator generator(seed, static_cast<std::uint64_t>(epoch), i, data::RandomStream::transform);
    views.push_back(data::train_view(images[i], options.train_transform, generator));
  }
  std::vector<int64_t> numbers(images.size());
  std::iota(numbers.begin(), numbers.end(), 0);
  const at::Tensor labels = at::zeros({std::ssize(images)}, at::kLong);
  const at::Tensor normalized = data::normalize(at::stack(views), options.normalize, at::kFloat);
  const auto augmented = data::augment_batch(normalized, labels, numbers, options, 1, {seed, epoch, 0});
  return levels(augmented.images, options.normalize);
}

}  // namespace

at::Tensor augment_sheet(const std::vector<at::Tensor>& images, const data::DataOptions& options, int64_t views,
                         std::uint64_t seed) {
  const int64_t size = options.train_transform.size, step = size + kMargin;
  data::DataOptions alone = options;
  alone.mix = {};
  at::Tensor sheet =
      at::full({std::ssize(images) * step + kMargin, (views + 1) * step + kMargin, 3}, kMarginLevel, at::kByte);
  const auto put = [&](int64_t row, int64_t column, const at::Tensor& cell) {
    sheet.narrow(0, kMargin + row * step, size).narrow(1, kMargin + column * step, size).copy_(cell);
  };
  for (int64_t row = 0; row < std::ssize(images); ++row) {
    put(row, 0, fitted(images[static_cast<std::size_t>(row)], size));
  }
  for (int64_t view = 0; view < views; ++view) {
    const at::Tensor cells = views_of(images, alone, seed, view);
    for (int64_t row = 0; row < cells.size(0); ++row) put(row, view + 1, cells[row]);
  }
  return sheet;
}

}  // namespace vrwkv::tools

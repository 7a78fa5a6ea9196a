#include "tools/augment_sheet.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <numeric>

#include "data/batch_augment/augment_batch.h"
#include "data/image_sheet.h"
#include "data/resize.h"
#include "data/transforms.h"

namespace vrwkv::tools {
namespace {

constexpr int64_t kWhite = 255;

/// The image with its long side brought to `size`, in a white square.
at::Tensor fitted(const at::Tensor& image, int64_t size) {
  const int64_t longer = std::max(image.size(0), image.size(1));
  const auto scaled = [&](int64_t side) { return std::max<int64_t>(1, side * size / longer); };
  const at::Tensor small = data::resize(image, scaled(image.size(0)), scaled(image.size(1)));
  at::Tensor square = at::full({size, size, 3}, kWhite, at::kByte);
  square.narrow(0, (size - small.size(0)) / 2, small.size(0))
      .narrow(1, (size - small.size(1)) / 2, small.size(1))
      .copy_(small);
  return square;
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
  return data::grey_levels(augmented.images, options.normalize);
}

}  // namespace

at::Tensor augment_sheet(const std::vector<at::Tensor>& images, const data::DataOptions& options, int64_t views,
                         std::uint64_t seed) {
  const int64_t size = options.train_transform.size;
  data::DataOptions alone = options;
  alone.mix = {};
  at::Tensor cells = at::empty({std::ssize(images), views + 1, size, size, 3}, at::kByte);
  for (int64_t row = 0; row < std::ssize(images); ++row) {
    cells[row][0].copy_(fitted(images[static_cast<std::size_t>(row)], size));
  }
  for (int64_t view = 0; view < views; ++view) {
    cells.select(1, view + 1).copy_(views_of(images, alone, seed, view));
  }
  return data::image_sheet(cells);
}

}  // namespace vrwkv::tools

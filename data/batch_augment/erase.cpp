#include "data/batch_augment/erase.h"

#include <ATen/Context.h>
#include <c10/util/Exception.h>

#include <cmath>
#include <optional>

namespace vrwkv::data {
namespace {

constexpr int kBoxTries = 10;

std::optional<Box> erasing_box(int64_t height, int64_t width, int64_t count, const ErasingOptions& options,
                               Generator& generator) {
  const double pixels = static_cast<double>(height * width) / static_cast<double>(count);
  for (int attempt = 0; attempt < kBoxTries; ++attempt) {
    const double area = pixels * generator.uniform(options.area[0], options.area[1]);
    const double aspect = std::exp(generator.uniform(std::log(options.ratio[0]), std::log(options.ratio[1])));
    const int64_t rows = std::llrint(std::sqrt(area * aspect));
    const int64_t columns = std::llrint(std::sqrt(area / aspect));
    if (rows < height && columns < width) {
      const int64_t top = generator.integer(height - rows + 1);
      return Box{top, generator.integer(width - columns + 1), rows, columns};
    }
  }
  return std::nullopt;
}

}  // namespace

std::vector<Box> erasing_boxes(int64_t height, int64_t width, const ErasingOptions& options, Generator& generator) {
  std::vector<Box> boxes;
  if (generator.uniform() >= options.prob) {
    return boxes;
  }
  const int64_t count = 1 + generator.integer(options.max_count);
  for (int64_t i = 0; i < count; ++i) {
    if (const auto box = erasing_box(height, width, count, options, generator)) {
      boxes.push_back(*box);
    }
  }
  return boxes;
}

void erase(const at::Tensor& images, const std::vector<std::vector<Box>>& boxes, ErasingFill fill,
           std::uint64_t noise_seed) {
  TORCH_CHECK(images.is_floating_point() && images.dim() == 4 && images.size(0) == std::ssize(boxes),
              "erase: images must be floating point [B, C, H, W] with boxes for each of them, got ",
              images.scalar_type(), " ", images.sizes(), " and boxes for ", boxes.size());
  at::Generator noise = at::globalContext().defaultGenerator(images.device()).clone();
  noise.set_current_seed(noise_seed);
  for (int64_t i = 0; i < images.size(0); ++i) {
    for (const Box& box : boxes[static_cast<std::size_t>(i)]) {
      const at::Tensor part = images.select(0, i).narrow(1, box.top, box.height).narrow(2, box.left, box.width);
      if (fill == ErasingFill::noise) {
        part.normal_(0.0, 1.0, noise);
      } else {
        part.zero_();
      }
    }
  }
}

}  // namespace vrwkv::data

#include <ATen/ops/empty_like.h>

#include <algorithm>
#include <stdexcept>
#include <string>

#include "data/augment/level_table.h"
#include "data/augment/operations.h"
#include "data/check_image.h"

namespace vrwkv::data::augment {
namespace {

using Histogram = std::array<int64_t, 256>;

void check_range(const char* function, int64_t value, int64_t low, int64_t high) {
  if (value < low || value > high) {
    throw std::invalid_argument(std::string(function) + ": expected an integer from " + std::to_string(low) + " to " +
                                std::to_string(high) + ", got " + std::to_string(value));
  }
}

at::Tensor apply_table(const at::Tensor& image, const LevelTable& table) {
  return apply_tables(image, {table, table, table});
}

std::array<Histogram, 3> histograms(const at::Tensor& image) {
  std::array<Histogram, 3> counts{};
  const auto* pixels = image.const_data_ptr<std::uint8_t>();
  for (int64_t i = 0; i < image.numel(); i += 3) {
    for (std::size_t c = 0; c < 3; ++c) {
      ++counts[c][pixels[i + static_cast<int64_t>(c)]];
    }
  }
  return counts;
}

int identity(int level) { return level; }

int lowest(const Histogram& histogram) {
  return static_cast<int>(std::ranges::find_if(histogram, [](int64_t count) { return count > 0; }) - histogram.begin());
}

int highest(const Histogram& histogram) {
  int level = 255;
  while (histogram[static_cast<std::size_t>(level)] == 0) {
    --level;
  }
  return level;
}

LevelTable stretched(const Histogram& histogram) {
  const int low = lowest(histogram);
  const int high = highest(histogram);
  if (low == high) {
    return make_table(identity);
  }
  const double scale = 255.0 / (high - low);
  const double offset = -low * scale;
  return make_table([&](int level) { return std::clamp(static_cast<int>(level * scale + offset), 0, 255); });
}

LevelTable flattened(const Histogram& histogram) {
  int64_t pixels = 0;
  for (const int64_t count : histogram) {
    pixels += count;
  }
  const int64_t step = (pixels - histogram[static_cast<std::size_t>(highest(histogram))]) / 255;
  if (step == 0) {
    return make_table(identity);
  }
  int64_t below = step / 2;
  return make_table([&](int level) {
    const int64_t value = below / step;
    below += histogram[static_cast<std::size_t>(level)];
    return std::min<int64_t>(value, 255);
  });
}

}  // namespace

at::Tensor apply_tables(const at::Tensor& image, const std::array<LevelTable, 3>& tables) {
  at::Tensor result = at::empty_like(image);
  const auto* from = image.const_data_ptr<std::uint8_t>();
  auto* to = result.mutable_data_ptr<std::uint8_t>();
  const int64_t count = image.numel();
  for (int64_t i = 0; i < count; i += 3) {
    to[i] = tables[0][from[i]];
    to[i + 1] = tables[1][from[i + 1]];
    to[i + 2] = tables[2][from[i + 2]];
  }
  return result;
}

at::Tensor invert(const at::Tensor& image) {
  check_image("invert", image);
  return apply_table(image, make_table([](int level) { return 255 - level; }));
}

at::Tensor posterize(const at::Tensor& image, int64_t bits) {
  check_image("posterize", image);
  check_range("posterize", bits, 0, 8);
  const int dropped = 8 - static_cast<int>(bits);
  return apply_table(image, make_table([&](int level) { return level >> dropped << dropped; }));
}

at::Tensor solarize(const at::Tensor& image, int64_t threshold) {
  check_image("solarize", image);
  check_range("solarize", threshold, 0, 256);
  return apply_table(image, make_table([&](int level) { return level < threshold ? level : 255 - level; }));
}

at::Tensor solarize_add(const at::Tensor& image, int64_t addend) {
  check_image("solarize_add", image);
  check_range("solarize_add", addend, 0, 255);
  return apply_table(
      image, make_table([&](int level) { return level < 128 ? std::min<int64_t>(255, level + addend) : level; }));
}

at::Tensor auto_contrast(const at::Tensor& image) {
  check_image("auto_contrast", image);
  const auto counts = histograms(image);
  return apply_tables(image, {stretched(counts[0]), stretched(counts[1]), stretched(counts[2])});
}

at::Tensor equalize(const at::Tensor& image) {
  check_image("equalize", image);
  const auto counts = histograms(image);
  return apply_tables(image, {flattened(counts[0]), flattened(counts[1]), flattened(counts[2])});
}

}  // namespace vrwkv::data::augment

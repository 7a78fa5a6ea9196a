#include "data/synthetic_dataset.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <stdexcept>
#include <utility>

#include "data/image_codec.h"
#include "data/random.h"

namespace vrwkv::data {
namespace {

constexpr double kNoise = 16;  ///< Standard deviation in grey levels of a tile's change.

using Colours = std::array<std::uint8_t, SyntheticDataset::kTiles * SyntheticDataset::kTiles * 3>;

Colours tile_colours(int64_t label, int64_t index, int64_t seed) {
  Generator pattern(0, 0, static_cast<std::uint64_t>(label), RandomStream::synthetic_class);
  Generator noise(static_cast<std::uint64_t>(seed), 0, static_cast<std::uint64_t>(index),
                  RandomStream::synthetic_image);
  Colours colours{};
  for (std::uint8_t& colour : colours) {
    colour = static_cast<std::uint8_t>(std::clamp(pattern.uniform(0, 256) + kNoise * noise.normal(), 0.0, 255.0));
  }
  return colours;
}

}  // namespace

SyntheticDataset::SyntheticDataset(const SyntheticOptions& options) : options_(options) {
  for (int64_t label = 0; label < options_.classes; ++label) classes_.push_back(std::to_string(label));
}

int64_t SyntheticDataset::label(int64_t index) const {
  if (index < 0 || index >= size()) {
    throw std::out_of_range("SyntheticDataset: index " + std::to_string(index) + " of " + std::to_string(size()));
  }
  return index % options_.classes;
}

EncodedSample SyntheticDataset::get(int64_t index) const {
  const Colours colours = tile_colours(label(index), index, options_.seed);
  const int64_t side = options_.size;
  const at::Tensor image = at::empty({side, side, 3}, at::kByte);
  auto* pixel = image.mutable_data_ptr<std::uint8_t>();
  for (int64_t y = 0; y < side; ++y) {
    for (int64_t x = 0; x < side; ++x, pixel += 3) {
      const int64_t tile = y * kTiles / side * kTiles + x * kTiles / side;
      std::copy_n(colours.begin() + tile * 3, 3, pixel);
    }
  }
  auto bytes = std::make_shared<const std::vector<std::uint8_t>>(encode_png(image));
  return {*bytes, bytes, label(index), "synthetic image " + std::to_string(index)};
}

}  // namespace vrwkv::data

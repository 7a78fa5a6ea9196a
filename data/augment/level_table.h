#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>

namespace vrwkv::data::augment {

/// What each of the 256 levels becomes.
using LevelTable = std::array<std::uint8_t, 256>;

/// `entry(level)` for every level.
template <class Entry>
LevelTable make_table(const Entry& entry) {
  LevelTable table;
  for (int level = 0; level < 256; ++level) {
    table[static_cast<std::size_t>(level)] = static_cast<std::uint8_t>(entry(level));
  }
  return table;
}

/// The image uint8 [H, W, 3] with a table for each channel put to work. `image` has been checked.
at::Tensor apply_tables(const at::Tensor& image, const std::array<LevelTable, 3>& tables);

}  // namespace vrwkv::data::augment

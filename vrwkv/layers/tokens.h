#pragma once

#include <torch/types.h>

#include <utility>

#include "vrwkv/layers/grid.h"

namespace vrwkv {

/// Which patches of a grid the tokens [B, T, C] of a sequence are.
struct Tokens {
  /// All of `grid`, row by row, or those at `positions`.
  Tokens(Grid of, torch::Tensor at = {}) : grid(of), positions(std::move(at)) {}  // NOLINT: a grid is all its tokens.

  Grid grid;
  torch::Tensor positions;  ///< int64 [B, T] numbers in the grid, each once in a row, any order; undefined: all.

  bool sparse() const { return positions.defined(); }

  /// T
  int64_t count() const { return sparse() ? positions.size(1) : grid.tokens(); }
};

}  // namespace vrwkv

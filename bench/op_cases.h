#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <string>
#include <vector>

#include "bench/sizes.h"

namespace vrwkv::bench {

/// An operator that `vrwkv-bench ops` measures. To add one: an entry of op_cases().
struct OpCase {
  using Tensors = std::vector<at::Tensor>;
  /// Bytes that a pass at least reads and writes, given the size and the bytes of an element.
  using Bytes = std::function<double(const OpSize&, int64_t element_bytes)>;

  std::string name;
  Bytes forward_bytes;
  Bytes backward_bytes;  ///< Empty: there is no backward pass to measure.
  /// New inputs of dtype and device `options`; gradients are taken for those of a floating point type.
  std::function<Tensors(const OpSize&, const at::TensorOptions& options)> make_inputs;
  std::function<Tensors(const OpSize&, const Tensors& inputs)> forward;
  /// The same by LibTorch's own operations, for --reference. May be empty.
  std::function<Tensors(const OpSize&, const Tensors& inputs)> reference;
  int64_t channel_multiple = 1;  ///< C must be a multiple of it.
};

/// All of them, in the order of the table.
const std::vector<OpCase>& op_cases();

/// Those of the given names in the given order; all without names. Throws UsageError for an unknown name.
std::vector<OpCase> choose_op_cases(const std::vector<std::string>& names);

/// The bytes of `count` tensors [B, T, C].
OpCase::Bytes whole_tensors(double count);

/// A patch grid of `tokens` tokens, as square as its divisors allow: {height, width}, height <= width.
std::pair<int64_t, int64_t> grid_of(int64_t tokens);

}  // namespace vrwkv::bench

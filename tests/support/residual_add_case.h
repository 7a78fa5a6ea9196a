#pragma once

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include <string>
#include <utility>
#include <vector>

#include "ops/residual_add.h"

namespace vrwkv::testing {

inline constexpr double kEps = 1e-5;

/// The parts of a call as bits, for loops over all combinations. kAlone: without x.
enum Parts { kGate = 1, kNorm = 2, kScale = 4, kMask = 8, kAll = 15, kAlone = 16, kEvery = 31 };

/// Which outputs have a gradient.
enum class Through { x, feed, both };

/// dtypes of one call, and the error that its rounding explains.
struct ResidualPrecision {
  at::ScalarType x, value;
  double tolerance, gradient_tolerance;
  double absolute = 1e-6;  ///< Of gradients that are zero in truth.
  at::ScalarType parameters() const { return x == at::kDouble ? at::kDouble : at::kFloat; }
};

inline const ResidualPrecision kDouble{at::kDouble, at::kDouble, 1e-12, 1e-10};
inline const ResidualPrecision kFloat{at::kFloat, at::kFloat, 1e-5, 2e-5};
inline const ResidualPrecision kMixedBFloat16{at::kFloat, at::kBFloat16, 1e-2, 1e-2};
inline const ResidualPrecision kMixedHalf{at::kFloat, at::kHalf, 1e-3, 2e-3};
inline const ResidualPrecision kBFloat16{at::kBFloat16, at::kBFloat16, 1e-2, 1e-2};
inline const ResidualPrecision kHalf{at::kHalf, at::kHalf, 1e-3, 2e-3};

/// One call's arguments, output gradients and, after run(), its results.
struct ResidualCase {
  at::Tensor x, gy, gfeed;
  ops::ResidualBranch branch;
  ops::Feed feed = ops::Feed::none;
  ops::ResidualOutput output;
  std::vector<at::Tensor> gradients;  ///< In the order of inputs().

  std::vector<std::pair<std::string, at::Tensor*>> inputs() {
    std::vector<std::pair<std::string, at::Tensor*>> all{{"x", &x}, {"value", &branch.value}, {"gate", &branch.gate}};
    all.insert(all.end(),
               {{"norm_weight", &branch.norm_weight}, {"norm_bias", &branch.norm_bias}, {"scale", &branch.scale}});
    std::erase_if(all, [](const auto& input) { return !input.second->defined(); });
    return all;
  }

  ResidualCase to(at::Device device, const ResidualPrecision& precision) const {
    ResidualCase moved = *this;
    const auto move = [&](at::Tensor& tensor, at::ScalarType dtype) {
      if (tensor.defined()) tensor = tensor.to(device, dtype);
    };
    for (at::Tensor* tensor : {&moved.x, &moved.gy}) move(*tensor, precision.x);
    for (at::Tensor* tensor : {&moved.gfeed, &moved.branch.value, &moved.branch.gate}) move(*tensor, precision.value);
    for (at::Tensor* tensor :
         {&moved.branch.norm_weight, &moved.branch.norm_bias, &moved.branch.scale, &moved.branch.mask}) {
      move(*tensor, precision.parameters());
    }
    return moved;
  }

  template <typename Op>
  void run(const Op& op, Through through = Through::both) {
    std::vector<at::Tensor> leaves, outputs, output_gradients;
    for (auto& [name, input] : inputs()) {
      *input = input->detach().requires_grad_();
      leaves.push_back(*input);
    }
    output = op(x, branch, feed, kEps);
    if (through != Through::feed || feed == ops::Feed::none) {
      outputs.push_back(output.x);
      output_gradients.push_back(gy.to(output.x.scalar_type()));
    }
    if (through != Through::x && feed != ops::Feed::none) {
      outputs.push_back(output.feed);
      output_gradients.push_back(gfeed);
    }
    gradients = torch::autograd::grad(outputs, leaves, output_gradients);
  }
};

inline ResidualCase random_residual_case(int64_t batch, int64_t tokens, int64_t channels, int parts, ops::Feed feed) {
  const auto tensor = [](at::IntArrayRef sizes) { return at::randn(sizes, at::kDouble); };
  const std::vector<int64_t> sizes{batch, tokens, channels};
  ResidualCase made{tensor(sizes), tensor(sizes), tensor(sizes), {tensor(sizes)}, feed, {}, {}};
  if (parts & kGate) made.branch.gate = tensor(sizes);
  if (parts & kNorm) {
    made.branch.norm_weight = tensor({channels}) + 1;
    made.branch.norm_bias = tensor({channels});
  }
  if (parts & kScale) made.branch.scale = tensor({channels}) + 1;
  if (parts & kAlone) made.x = at::Tensor();
  if (parts & kMask) made.branch.mask = at::bernoulli(at::full({batch, 1, 1}, 0.7, at::kDouble)) / 0.7;
  return made;
}

}  // namespace vrwkv::testing

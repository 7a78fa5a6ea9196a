#include "vrwkv/layers/token_shift.h"

#include <ATen/Functions.h>
#include <ATen/OpMathType.h>

#include <stdexcept>

#include "ops/linear.h"
#include "ops/optional_tensor.h"
#include "ops/q_shift.h"
#include "ops/residual_mix.h"
#include "ops/token_shift_blend.h"
#include "ops/token_shift_linear.h"
#include "ops/token_shift_mix.h"
#include "vrwkv/layers/layer_norm.h"

namespace vrwkv {
namespace {

/// Each token reads what stands before it in the sequence x [B, T, ...].
torch::Tensor from_before(const torch::Tensor& x) {
  return at::cat({at::zeros_like(x.slice(1, 0, 1)), x.slice(1, 0, -1)}, 1);
}

torch::Tensor from_behind(const torch::Tensor& x) {
  return at::cat({x.slice(1, 1), at::zeros_like(x.slice(1, 0, 1))}, 1);
}

torch::Tensor q_shift(const torch::Tensor& x, const Tokens& tokens, std::optional<int64_t> group) {
  const Grid grid = tokens.grid;
  if (!tokens.sparse()) return ops::q_shift(x, grid.height, grid.width, group);
  // Over the whole grid, with 0 where no token is.
  const torch::Tensor index = tokens.positions.unsqueeze(2).expand_as(x);
  const torch::Tensor map = at::zeros({x.size(0), grid.tokens(), x.size(2)}, x.options()).scatter(1, index, x);
  return ops::q_shift(map, grid.height, grid.width, group).gather(1, index);
}

/// The first half of each group reads before, the other behind.
torch::Tensor bidirectional(const torch::Tensor& x, std::optional<int64_t> group) {
  const torch::Tensor apart = x.unflatten(2, {-1, group.value_or(x.size(2))});
  const int64_t half = apart.size(3) / 2;
  return at::cat({from_before(apart.slice(3, 0, half)), from_behind(apart.slice(3, half))}, 3).flatten(2);
}

/// Tokens and their shift, in the accumulation dtype.
struct ShiftedTokens {
  torch::Tensor x, shifted;
};

ShiftedTokens shift_feed(const torch::Tensor& feed, const NormAffine& norm, const ShiftOf& of) {
  const auto wide = at::toOpMathType(feed.scalar_type());
  torch::Tensor x = feed.to(wide);
  if (norm.weight.defined()) x = x * norm.weight.to(wide) + norm.bias.to(wide);
  return {x, shift_tokens(x, of.tokens, of.shift, of.group)};
}

}  // namespace

torch::Tensor shift_tokens(const torch::Tensor& x, const Tokens& tokens, Shift shift, std::optional<int64_t> group) {
  switch (shift) {
    case Shift::q_shift:
      return q_shift(x, tokens, group);
    case Shift::single_shift:
      return from_before(x);
    case Shift::bidirectional:
      return bidirectional(x, group);
  }
  throw std::logic_error("shift_tokens: unknown shift");
}

std::vector<torch::Tensor> mix_tokens(const torch::Tensor& feed, const NormAffine& norm,
                                      std::initializer_list<torch::Tensor> mixes, const ShiftOf& shift) {
  if (shifts_whole_grid(shift)) {
    return ops::token_shift_mix(feed, mixes, ops::optional_tensor(norm.weight), ops::optional_tensor(norm.bias),
                                shift.tokens.grid.height, shift.tokens.grid.width, shift.group);
  }
  const auto [x, shifted] = shift_feed(feed, norm, shift);
  std::vector<torch::Tensor> mixed;
  for (const torch::Tensor& mix : mixes) {
    mixed.push_back(at::lerp(shifted, x, mix.to(x.scalar_type())).to(feed.scalar_type()));
  }
  return mixed;
}

std::vector<torch::Tensor> mix_stream(Stream& stream, const NormAffine& norm,
                                      std::initializer_list<torch::Tensor> mixes, const ShiftOf& shift) {
  if (stream.is_sum()) return mix_tokens(stream.feed, norm, mixes, shift);
  TORCH_CHECK(shifts_whole_grid(shift) && !shift.group && !norm.weight.defined(),
              "mix_stream: only Q-Shift over a whole grid without a norm adds a branch");
  auto [x, mixed] = ops::residual_mix(stream.x, stream.branch, mixes, shift.tokens.grid.height, shift.tokens.grid.width,
                                      kLayerNormEps);
  stream = {x, {}};
  return mixed;
}

std::vector<torch::Tensor> project_mixes(Stream& stream, const NormAffine& norm,
                                         std::initializer_list<torch::Tensor> mixes,
                                         std::initializer_list<torch::Tensor> weights, const ShiftOf& shift) {
  TORCH_CHECK(!shift.group, "project_mixes: groups are not supported");
  if (stream.is_sum() && shifts_whole_grid(shift)) {
    return ops::token_shift_linear(stream.feed, mixes, weights, ops::optional_tensor(norm.weight),
                                   ops::optional_tensor(norm.bias), shift.tokens.grid.height, shift.tokens.grid.width);
  }
  return ops::linears(mix_stream(stream, norm, mixes, shift), weights);
}

std::vector<torch::Tensor> blend_tokens(const torch::Tensor& feed, const NormAffine& norm,
                                        std::initializer_list<torch::Tensor> constants, const torch::Tensor& shares,
                                        const ShiftOf& shift) {
  if (shifts_whole_grid(shift)) {
    return ops::token_shift_blend(feed, constants, shares, ops::optional_tensor(norm.weight),
                                  ops::optional_tensor(norm.bias), shift.tokens.grid.height, shift.tokens.grid.width,
                                  shift.group);
  }
  const auto [x, shifted] = shift_feed(feed, norm, shift);
  const torch::Tensor difference = shifted - x;
  std::vector<torch::Tensor> blended;
  for (const torch::Tensor& constant : constants) {
    const torch::Tensor amount = constant.to(x.scalar_type()) + shares[std::ssize(blended)];
    blended.push_back(at::addcmul(x, difference, amount).to(feed.scalar_type()));
  }
  return blended;
}

}  // namespace vrwkv

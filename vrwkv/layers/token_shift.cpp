#include "vrwkv/layers/token_shift.h"

#include <ATen/Functions.h>
#include <ATen/OpMathType.h>

#include <stdexcept>

#include "ops/q_shift.h"

namespace vrwkv {
namespace {

/// Each token reads what stands before it in the sequence.
torch::Tensor from_before(const torch::Tensor& x) { return at::constant_pad_nd(x.slice(1, 0, -1), {0, 0, 1, 0}); }

torch::Tensor from_behind(const torch::Tensor& x) { return at::constant_pad_nd(x.slice(1, 1), {0, 0, 0, 1}); }

torch::Tensor q_shift(const torch::Tensor& x, const Tokens& tokens) {
  const Grid grid = tokens.grid;
  if (!tokens.sparse()) return ops::q_shift(x, grid.height, grid.width);
  // Over the whole grid, with 0 where no token is.
  const torch::Tensor index = tokens.positions.unsqueeze(2).expand_as(x);
  const torch::Tensor map = at::zeros({x.size(0), grid.tokens(), x.size(2)}, x.options()).scatter(1, index, x);
  return ops::q_shift(map, grid.height, grid.width).gather(1, index);
}

}  // namespace

torch::Tensor shift_tokens(const torch::Tensor& x, const Tokens& tokens, Shift shift) {
  switch (shift) {
    case Shift::q_shift:
      return q_shift(x, tokens);
    case Shift::single_shift:
      return from_before(x);
    case Shift::bidirectional: {
      const int64_t half = x.size(2) / 2;
      return at::cat({from_before(x.slice(2, 0, half)), from_behind(x.slice(2, half))}, 2);
    }
  }
  throw std::logic_error("shift_tokens: unknown shift");
}

ShiftedTokens shift_feed(const torch::Tensor& feed, const NormAffine& norm, const Tokens& tokens, Shift shift,
                         int64_t group) {
  const auto wide = at::toOpMathType(feed.scalar_type());
  torch::Tensor x = feed.to(wide);
  if (norm.weight.defined()) x = x * norm.weight.to(wide) + norm.bias.to(wide);
  const int64_t groups = x.size(2) / group;
  if (groups == 1) return {x, shift_tokens(x, tokens, shift)};
  // A group is an image of its own: [B groups, T, group].
  const torch::Tensor apart = x.unflatten(2, {groups, group}).transpose(1, 2).flatten(0, 1);
  const Tokens apart_tokens(tokens.grid,
                            tokens.sparse() ? tokens.positions.repeat_interleave(groups, 0) : tokens.positions);
  const torch::Tensor shifted = shift_tokens(apart, apart_tokens, shift);
  return {x, shifted.unflatten(0, {-1, groups}).transpose(1, 2).flatten(2)};
}

std::vector<torch::Tensor> mix_shifted(const ShiftedTokens& tokens, std::initializer_list<torch::Tensor> mixes,
                                       at::ScalarType dtype) {
  std::vector<torch::Tensor> mixed;
  for (const torch::Tensor& mix : mixes) {
    mixed.push_back(at::lerp(tokens.shifted, tokens.x, mix.to(tokens.x.scalar_type())).to(dtype));
  }
  return mixed;
}

}  // namespace vrwkv

#include "vrwkv/layers/head_shift.h"

#include <ATen/Functions.h>
#include <ATen/OpMathType.h>

#include "ops/bi_wkv6_head.h"
#include "ops/q_shift.h"

namespace vrwkv {

HeadShift shift_heads(const torch::Tensor& feed, const NormAffine& norm, Grid grid) {
  const auto wide = at::toOpMathType(feed.scalar_type());
  torch::Tensor x = feed.to(wide);
  if (norm.weight.defined()) x = x * norm.weight.to(wide) + norm.bias.to(wide);
  const int64_t heads = x.size(2) / ops::kBiWkv6HeadSize;
  // A head is an image of its own: [B heads, T, 64].
  const torch::Tensor by_head = x.unflatten(2, {heads, ops::kBiWkv6HeadSize}).transpose(1, 2).flatten(0, 1);
  const torch::Tensor shifted = ops::q_shift(by_head, grid.height, grid.width);
  return {x, shifted.unflatten(0, {-1, heads}).transpose(1, 2).flatten(2)};
}

std::vector<torch::Tensor> mix_head_tokens(const torch::Tensor& feed, const NormAffine& norm,
                                           std::initializer_list<torch::Tensor> mixes, Grid grid) {
  const auto [x, shifted] = shift_heads(feed, norm, grid);
  std::vector<torch::Tensor> mixed;
  for (const torch::Tensor& mix : mixes) {
    mixed.push_back(at::lerp(shifted, x, mix.to(x.scalar_type())).to(feed.scalar_type()));
  }
  return mixed;
}

}  // namespace vrwkv

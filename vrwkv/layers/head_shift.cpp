#include "vrwkv/layers/head_shift.h"

#include "ops/bi_wkv6_head.h"

namespace vrwkv {

ShiftedTokens shift_heads(const torch::Tensor& feed, const NormAffine& norm, const Tokens& tokens, Shift shift) {
  return shift_feed(feed, norm, tokens, shift, ops::kBiWkv6HeadSize);
}

std::vector<torch::Tensor> mix_head_tokens(const torch::Tensor& feed, const NormAffine& norm,
                                           std::initializer_list<torch::Tensor> mixes, const Tokens& tokens,
                                           Shift shift) {
  return mix_shifted(shift_heads(feed, norm, tokens, shift), mixes, feed.scalar_type());
}

}  // namespace vrwkv

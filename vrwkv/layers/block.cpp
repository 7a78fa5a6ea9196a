#include "vrwkv/layers/block.h"

#include "ops/linear_residual.h"
#include "ops/linear_residual_channel_mix.h"
#include "ops/residual_mix.h"
#include "vrwkv/layers/layer_norm.h"
#include "vrwkv/layers/token_shift.h"

namespace vrwkv {

BlockImpl::BlockImpl(const VrwkvOptions& options, int64_t layer) : options_(options), layer_(layer) { reset(); }

void BlockImpl::reset() {
  const int64_t channels = options_.embed_dims;
  if (options_.init_values) {
    gamma1 = register_parameter("gamma1", torch::full({channels}, *options_.init_values));
    gamma2 = register_parameter("gamma2", torch::full({channels}, *options_.init_values));
  }
  ln1 = register_module("ln1", torch::nn::LayerNorm(layer_norm_options(channels)));
  ln2 = register_module("ln2", torch::nn::LayerNorm(layer_norm_options(channels)));
  if (layer_ == 0) ln0 = register_module("ln0", torch::nn::LayerNorm(layer_norm_options(channels)));
  const bool heads = options_.attention == Attention::bi_wkv6;
  if (heads) {
    att6 = register_module("att", SpatialMix6(SpatialMix6Options{channels, options_.key_norm, options_.shift}));
  } else {
    att = register_module("att", SpatialMix(SpatialMixOptions{channels, options_.key_norm,
                                                              options_.wkv == WkvFormula::published, options_.shift}));
  }
  ffn = register_module(
      "ffn", ChannelMix(ChannelMixOptions{channels, options_.hidden_rate, options_.key_norm, heads, options_.shift}));
}

void BlockImpl::pretty_print(std::ostream& stream) const {
  stream << "vrwkv::Block(layer=" << layer_ << ", post_norm=" << options_.post_norm
         << ", layer_scale=" << options_.init_values.has_value() << ", drop_path=" << drop_path_rate() << ")";
}

double BlockImpl::drop_path_rate() const {
  if (options_.depth == 1) return 0.0;
  return options_.drop_path_rate * static_cast<double>(layer_) / static_cast<double>(options_.depth - 1);
}

/// What a branch applies to its feed: nothing where its output is normalised instead.
NormAffine BlockImpl::branch_norm(const torch::nn::LayerNorm& norm) const {
  return options_.post_norm ? NormAffine{} : NormAffine{norm->weight, norm->bias};
}

/// `branch` with what all branches have at their ends.
ops::ResidualBranch BlockImpl::finished(ops::ResidualBranch branch, const torch::nn::LayerNorm& norm,
                                        const torch::Tensor& scale, const torch::Tensor& mask) const {
  if (options_.post_norm) {
    branch.norm_weight = norm->weight;
    branch.norm_bias = norm->bias;
  }
  branch.scale = scale;
  branch.mask = mask;
  return branch;
}

/// x and `branch`; a feed of this kind, or the sum left to what reads it.
Stream BlockImpl::add(const torch::Tensor& x, const ops::ResidualBranch& branch, ops::Feed feed, bool leaves_sum) {
  if (leaves_sum) return {x, {}, branch};
  const auto [sum, next] = ops::residual_add(x, branch, feed, kLayerNormEps);
  return {sum, next};
}

/// The stream as the first branch reads it: after ln0 where there is one, with its feed.
Stream BlockImpl::enter(Stream stream) const {
  if (ln0) {
    const ops::ResidualBranch normalized{.value = stream.x, .norm_weight = ln0->weight, .norm_bias = ln0->bias};
    const auto [sum, next] = ops::residual_add({}, normalized, feed_of(options_), kLayerNormEps);
    stream = {sum, next};
  }
  if (stream.is_sum() && !stream.feed.defined()) stream.feed = make_feed(stream.x, !options_.post_norm);
  return stream;
}

BiWkvInputs BlockImpl::bi_wkv_inputs(Stream stream, const Tokens& tokens) {
  TORCH_CHECK(att, "vrwkv: a block with attention bi_wkv6 has no Bi-WKV");
  stream = enter(std::move(stream));
  return att->project(stream, branch_norm(ln1), tokens);
}

bool BlockImpl::adds_plainly() const { return !options_.post_norm && !gamma1.defined(); }

/// Whether sums are left to the mixes that read them, with which they have their gradients together.
bool BlockImpl::leaves_sums(const Stream& stream, const Tokens& tokens) const {
  return att && options_.post_norm && shifts_whole_grid({tokens, options_.shift}) &&
         ops::residual_mix_is_joined(stream.x, stream.is_sum() ? stream.feed : stream.branch.value);
}

Stream BlockImpl::add_attention(Stream stream, const Tokens& tokens, const torch::Tensor& mask, bool leaves_sum) {
  const NormAffine norm = branch_norm(ln1);
  if (att && adds_plainly()) {
    const auto [sum, feed] = ops::linear_residual(stream.x, att->mix(stream, norm, tokens), att->output->weight, mask,
                                                  feed_of(options_), kLayerNormEps);
    return {sum, feed};
  }
  const torch::Tensor value = att6 ? att6(stream.feed, norm, tokens) : att(stream, norm, tokens);
  return add(stream.x, finished({.value = value}, ln1, gamma1, mask), feed_of(options_), leaves_sum);
}

Stream BlockImpl::add_channel_mix(Stream stream, const Tokens& tokens, const torch::Tensor& mask, ops::Feed next,
                                  bool leaves_sum) {
  const auto [value, gate] = ffn(stream, branch_norm(ln2), tokens);
  return add(stream.x, finished({.value = value, .gate = gate}, ln2, gamma2, mask), next, leaves_sum);
}

Stream BlockImpl::forward(Stream stream, const Tokens& tokens, const DropPathMasks& masks, ops::Feed next, bool adds) {
  stream = enter(std::move(stream));
  const bool drops = masks.att.defined() || masks.ffn.defined();
  if (att && adds_plainly() && !drops && ffn->is_operator(tokens)) {
    const auto [sum, feed] = ops::linear_residual_channel_mix(
        stream.x, att->mix(stream, branch_norm(ln1), tokens), att->output->weight, ffn->parameters(branch_norm(ln2)),
        tokens.grid.height, tokens.grid.width, feed_of(options_), next, kLayerNormEps);
    return {sum, feed};
  }
  const bool leaves = leaves_sums(stream, tokens);
  stream = add_attention(std::move(stream), tokens, masks.att, leaves);
  return add_channel_mix(std::move(stream), tokens, masks.ffn, next, leaves && adds);
}

}  // namespace vrwkv

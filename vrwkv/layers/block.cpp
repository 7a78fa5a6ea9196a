#include "vrwkv/layers/block.h"

#include "vrwkv/layers/drop_path.h"
#include "vrwkv/layers/token_mix.h"

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
  att = register_module("att", SpatialMix(SpatialMixOptions{channels, options_.key_norm}));
  ffn = register_module("ffn", ChannelMix(ChannelMixOptions{channels, options_.hidden_rate, options_.key_norm}));
}

void BlockImpl::pretty_print(std::ostream& stream) const {
  stream << "vrwkv::Block(layer=" << layer_ << ", post_norm=" << options_.post_norm
         << ", layer_scale=" << options_.init_values.has_value() << ", drop_path=" << drop_path_rate() << ")";
}

double BlockImpl::drop_path_rate() const {
  if (options_.depth == 1) return 0.0;
  return options_.drop_path_rate * static_cast<double>(layer_) / static_cast<double>(options_.depth - 1);
}

torch::Tensor BlockImpl::forward(torch::Tensor x, Grid grid, const DropPathMasks& masks) {
  if (ln0) x = ln0(x);
  torch::Tensor branch = options_.post_norm ? ln1(att(x, grid)) : att(ln1(x), grid);
  if (gamma1.defined()) branch = gamma1 * branch;
  x = x + apply_drop_path(branch, masks.att);
  branch = options_.post_norm ? ln2(ffn(x, grid)) : ffn(ln2(x), grid);
  if (gamma2.defined()) branch = gamma2 * branch;
  return x + apply_drop_path(branch, masks.ffn);
}

}  // namespace vrwkv

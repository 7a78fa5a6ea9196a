#include "vrwkv/layers/block_stack.h"

#include <torch/nn/modules/linear.h>

#include "ops/weight_casts.h"
#include "ops/weight_packs.h"
#include "ops/weight_quotients.h"
#include "vrwkv/autocast.h"
#include "vrwkv/init.h"
#include "vrwkv/layers/channel_mix.h"
#include "vrwkv/layers/checkpoint_function.h"
#include "vrwkv/layers/drop_path.h"
#include "vrwkv/layers/spatial_mix.h"

namespace vrwkv {
namespace {

/// Casts the weights that ops::linear takes in `module` together, where it reads such casts: under autocast on CUDA.
/// Without gradients kernels take the weights as they are.
void cast_linear_weights(const torch::nn::Module& module, at::Device device) {
  const auto dtype = autocast_dtype(device.type());
  if (!dtype || !device.is_cuda() || !at::GradMode::is_enabled()) return;
  std::vector<torch::Tensor> weights;
  for (const auto& part : module.modules(/*include_self=*/false)) {
    const auto* linear = part->as<torch::nn::LinearImpl>();
    if (linear != nullptr && !linear->options.bias()) weights.push_back(linear->weight);
  }
  ops::cast_weights(weights, *dtype);
}

/// Divides what Bi-WKV divides by the number of tokens in the layers of `module` together, where such casts are kept.
void divide_decays(const torch::nn::Module& module, at::Device device, const Tokens& tokens) {
  if (!autocast_dtype(device.type()) || !device.is_cuda()) return;
  std::vector<torch::Tensor> weights;
  for (const auto& part : module.modules(/*include_self=*/false)) {
    const auto* mix = part->as<SpatialMixImpl>();
    if (mix != nullptr) weights.insert(weights.end(), {mix->spatial_decay, mix->spatial_first});
  }
  ops::divide_weights(weights, static_cast<double>(tokens.count()));
}

/// Packs the weights of the layers of `module` for the kernels of training together: under autocast to bfloat16 on
/// CUDA. Without gradients they stay what they are, so that each layer's are packed but once.
void pack_layers(const torch::nn::Module& module, at::Device device) {
  if (autocast_dtype(device.type()) != at::kBFloat16 || !device.is_cuda() || !at::GradMode::is_enabled()) return;
  std::vector<torch::Tensor> projections, keys, values;
  for (const auto& part : module.modules(/*include_self=*/false)) {
    if (const auto* mix = part->as<SpatialMixImpl>()) {
      projections.insert(projections.end(), {mix->key->weight, mix->value->weight, mix->receptance->weight});
    } else if (const auto* mlp = part->as<ChannelMixImpl>(); mlp != nullptr && !mlp->key_norm) {
      keys.push_back(mlp->key->weight);
      values.push_back(mlp->value->weight);
    }
  }
  ops::pack_weights(ops::kShiftLinearGradientOrder, projections);
  ops::pack_weights(ops::kHiddenOrder, keys);
  ops::pack_weights(ops::kHiddenGradientOrder, values);
}

/// Everything that is made of the weights of `module` for a pass over it.
void prepare_weights(const torch::nn::Module& module, at::Device device, const Tokens& tokens) {
  cast_linear_weights(module, device);
  divide_decays(module, device, tokens);
  pack_layers(module, device);
}

}  // namespace

torch::nn::ModuleList make_blocks(const VrwkvOptions& options) {
  torch::nn::ModuleList blocks;
  for (int64_t layer = 0; layer < options.depth; ++layer) blocks->push_back(Block(options, layer));
  initialize_blocks(*blocks, options);
  return blocks;
}

Stream run_block(torch::nn::ModuleListImpl& blocks, const VrwkvOptions& options, int64_t layer, const Stream& stream,
                 const Tokens& tokens, bool goes_on) {
  const auto block = blocks[static_cast<size_t>(layer)];
  auto& impl = *block->as<BlockImpl>();
  const double rate = blocks.is_training() ? impl.drop_path_rate() : 0.0;
  const torch::Tensor& x = stream.x;
  const DropPathMasks masks{draw_drop_path_mask(x.size(0), rate, x.options()),
                            draw_drop_path_mask(x.size(0), rate, x.options())};
  if (!options.with_cp || !blocks.is_training() || !x.requires_grad()) {
    const bool last = layer + 1 == options.depth;
    return impl.forward(stream, tokens, masks, last ? ops::Feed::standardized : BlockImpl::feed_of(options),
                        goes_on && !last);
  }
  // Only x is kept between the blocks; each makes its feed anew.
  const auto run = [block, tokens, masks](const torch::Tensor& input) {
    // For the second run, after the pass over the network.
    prepare_weights(*block, input.device(), tokens);
    return block->as<BlockImpl>()->forward({input, {}}, tokens, masks, ops::Feed::none).x;
  };
  return {checkpoint(run, x), {}};
}

Stream run_blocks(torch::nn::ModuleListImpl& blocks, const VrwkvOptions& options, const torch::Tensor& embedded,
                  const Tokens& tokens, const std::function<void(int64_t, const Stream&)>& visit) {
  prepare_weights(blocks, embedded.device(), tokens);
  Stream stream{embedded, {}};
  for (int64_t layer = 0; layer < options.depth; ++layer) {
    stream = run_block(blocks, options, layer, stream, tokens, /*goes_on=*/!visit && !options.with_cp);
    if (layer == options.depth - 1 && !stream.feed.defined()) stream.feed = make_feed(stream.x, true);
    if (visit) visit(layer, stream);
  }
  return stream;
}

torch::Tensor final_norm(const Stream& last, const torch::nn::LayerNormImpl& norm) {
  return last.feed * norm.weight + norm.bias;
}

}  // namespace vrwkv

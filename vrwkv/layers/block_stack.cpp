#include "vrwkv/layers/block_stack.h"

#include "vrwkv/init.h"
#include "vrwkv/layers/checkpoint_function.h"
#include "vrwkv/layers/drop_path.h"

namespace vrwkv {

torch::nn::ModuleList make_blocks(const VrwkvOptions& options) {
  torch::nn::ModuleList blocks;
  for (int64_t layer = 0; layer < options.depth; ++layer) blocks->push_back(Block(options, layer));
  initialize_blocks(*blocks, options);
  return blocks;
}

Stream run_block(torch::nn::ModuleListImpl& blocks, const VrwkvOptions& options, int64_t layer, const Stream& stream,
                 const Tokens& tokens) {
  const auto block = blocks[static_cast<size_t>(layer)];
  auto& impl = *block->as<BlockImpl>();
  const double rate = blocks.is_training() ? impl.drop_path_rate() : 0.0;
  const torch::Tensor& x = stream.x;
  const DropPathMasks masks{draw_drop_path_mask(x.size(0), rate, x.options()),
                            draw_drop_path_mask(x.size(0), rate, x.options())};
  if (!options.with_cp || !blocks.is_training() || !x.requires_grad()) {
    const bool last = layer + 1 == options.depth;
    return impl.forward(stream, tokens, masks, last ? ops::Feed::standardized : BlockImpl::feed_of(options));
  }
  // Only x is kept between the blocks; each makes its feed anew.
  const auto run = [block, tokens, masks](const torch::Tensor& input) {
    return block->as<BlockImpl>()->forward({input, {}}, tokens, masks, ops::Feed::none).x;
  };
  return {checkpoint(run, x), {}};
}

Stream run_blocks(torch::nn::ModuleListImpl& blocks, const VrwkvOptions& options, const torch::Tensor& embedded,
                  const Tokens& tokens, const std::function<void(int64_t, const Stream&)>& visit) {
  Stream stream{embedded, {}};
  for (int64_t layer = 0; layer < options.depth; ++layer) {
    stream = run_block(blocks, options, layer, stream, tokens);
    if (layer == options.depth - 1 && !stream.feed.defined()) stream.feed = make_feed(stream.x, true);
    visit(layer, stream);
  }
  return stream;
}

torch::Tensor final_norm(const Stream& last, const torch::nn::LayerNormImpl& norm) {
  return last.feed * norm.weight + norm.bias;
}

}  // namespace vrwkv

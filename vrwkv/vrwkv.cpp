#include "vrwkv/vrwkv.h"

#include <ATen/Functions.h>

#include <algorithm>

#include "vrwkv/init.h"
#include "vrwkv/layers/checkpoint_function.h"
#include "vrwkv/layers/drop_path.h"
#include "vrwkv/layers/layer_norm.h"

namespace vrwkv {

VrwkvImpl::VrwkvImpl(VrwkvOptions options) : options_(std::move(options)) {
  validate(options_);
  reset();
}

void VrwkvImpl::reset() {
  const int64_t side = options_.img_size / options_.patch_size;
  patch_embed = register_module(
      "patch_embed", PatchEmbed(PatchEmbedOptions{options_.in_channels, options_.embed_dims, options_.patch_size}));
  pos_embed = register_parameter("pos_embed", torch::zeros({1, side * side, options_.embed_dims}));
  layers = register_module("layers", torch::nn::ModuleList());
  for (int64_t layer = 0; layer < options_.depth; ++layer) layers->push_back(Block(options_, layer));
  ln1 = register_module("ln1", torch::nn::LayerNorm(layer_norm_options(options_.embed_dims)));
  initialize(*this);
}

void VrwkvImpl::pretty_print(std::ostream& stream) const {
  stream << "vrwkv::Vrwkv(img_size=" << options_.img_size << ", patch_size=" << options_.patch_size
         << ", embed_dims=" << options_.embed_dims << ", depth=" << options_.depth << ")";
}

torch::Tensor resize_pos_embed(const torch::Tensor& pos_embed, Grid from, Grid to) {
  TORCH_CHECK(pos_embed.dim() == 3 && pos_embed.size(0) == 1 && pos_embed.size(1) == from.tokens(),
              "resize_pos_embed: pos_embed must be [1, ", from.tokens(), ", C], got ", pos_embed.sizes());
  if (from.height == to.height && from.width == to.width) return pos_embed;
  const torch::Tensor map = pos_embed.transpose(1, 2).reshape({1, pos_embed.size(2), from.height, from.width});
  const torch::Tensor resized =
      at::upsample_bicubic2d(map.to(torch::kFloat), {to.height, to.width}, /*align_corners=*/false);
  return resized.flatten(2).transpose(1, 2).to(pos_embed.dtype());
}

torch::Tensor VrwkvImpl::embed(const torch::Tensor& images, Grid grid) {
  const int64_t side = options_.img_size / options_.patch_size;
  const torch::Tensor patches = patch_embed(images);
  const torch::Tensor x = patches + resize_pos_embed(pos_embed, {side, side}, grid).to(patches.scalar_type());
  return at::dropout(x, options_.drop_rate, is_training());
}

Stream VrwkvImpl::run_block(int64_t layer, const Stream& stream, Grid grid) {
  const auto block = layers[static_cast<size_t>(layer)];
  auto& impl = *block->as<BlockImpl>();
  const double rate = is_training() ? impl.drop_path_rate() : 0.0;
  const torch::Tensor& x = stream.x;
  const DropPathMasks masks{draw_drop_path_mask(x.size(0), rate, x.options()),
                            draw_drop_path_mask(x.size(0), rate, x.options())};
  if (!options_.with_cp || !is_training() || !x.requires_grad()) {
    // The final ln1 reads what is standardized.
    const bool last = layer + 1 == options_.depth;
    return impl.forward(stream, grid, masks, last ? ops::Feed::standardized : BlockImpl::feed_of(options_));
  }
  // Only x is kept between the blocks; each makes its feed anew.
  const auto run = [block, grid, masks](const torch::Tensor& input) {
    return block->as<BlockImpl>()->forward({input, {}}, grid, masks, ops::Feed::none).x;
  };
  return {checkpoint(run, x), {}};
}

/// What the last block leaves; `visit(layer, stream)` sees what each one does.
Stream VrwkvImpl::run(const torch::Tensor& images, Grid grid,
                      const std::function<void(int64_t, const Stream&)>& visit) {
  Stream stream{embed(images, grid), {}};
  for (int64_t layer = 0; layer < options_.depth; ++layer) {
    stream = run_block(layer, stream, grid);
    if (layer == options_.depth - 1 && !stream.feed.defined()) stream.feed = make_feed(stream.x, true);
    visit(layer, stream);
  }
  return stream;
}

std::vector<torch::Tensor> VrwkvImpl::forward(const torch::Tensor& images) {
  const Grid grid = patch_embed->grid(images);
  const std::vector<int64_t> wanted =
      options_.out_indices.empty() ? std::vector<int64_t>{options_.depth - 1} : options_.out_indices;
  std::vector<torch::Tensor> maps;
  run(images, grid, [&](int64_t layer, const Stream& stream) {
    if (std::find(wanted.begin(), wanted.end(), layer) == wanted.end()) return;
    const bool last = layer == options_.depth - 1;
    const torch::Tensor x = last ? stream.feed * ln1->weight + ln1->bias : stream.x;
    maps.push_back(x.transpose(1, 2).unflatten(2, {grid.height, grid.width}));
  });
  return maps;
}

torch::Tensor VrwkvImpl::pooled(const torch::Tensor& images) {
  const Stream last = run(images, patch_embed->grid(images), [](int64_t, const Stream&) {});
  // The mean of ln1 is the weight and bias of ln1 on the mean.
  const torch::Tensor mean = last.feed.mean({1}, /*keepdim=*/false, ln1->weight.scalar_type());
  return at::addcmul(ln1->bias, mean, ln1->weight);
}

BiWkvInputs VrwkvImpl::bi_wkv_inputs(const torch::Tensor& images, int64_t layer) {
  TORCH_CHECK(layer >= 0 && layer < num_layers(), "vrwkv: layer must be 0 to ", num_layers() - 1, ", got ", layer);
  const Grid grid = patch_embed->grid(images);
  Stream stream{embed(images, grid), {}};
  for (int64_t before = 0; before < layer; ++before) stream = run_block(before, stream, grid);
  return layers[static_cast<size_t>(layer)]->as<BlockImpl>()->bi_wkv_inputs(stream, grid);
}

int64_t VrwkvImpl::layer_id(const std::string& parameter) const {
  if (parameter == "pos_embed" || parameter.starts_with("patch_embed.")) return 0;
  const std::string prefix = "layers.";
  if (parameter.starts_with(prefix)) return std::stoll(parameter.substr(prefix.size())) + 1;
  return num_layers() + 1;
}

}  // namespace vrwkv

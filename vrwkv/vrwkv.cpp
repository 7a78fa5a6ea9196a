#include "vrwkv/vrwkv.h"

#include <ATen/Functions.h>

#include <algorithm>

#include "ops/token_mean.h"
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
  layers = register_module("layers", make_blocks(options_));
  ln1 = register_module("ln1", torch::nn::LayerNorm(layer_norm_options(options_.embed_dims)));
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

torch::Tensor VrwkvImpl::embed(const torch::Tensor& images, const Tokens& tokens, int64_t pos_embed_times) {
  const int64_t side = options_.img_size / options_.patch_size;
  torch::Tensor places = resize_pos_embed(pos_embed, {side, side}, tokens.grid);
  if (pos_embed_times != 1) places = places * pos_embed_times;
  torch::Tensor x = patch_embed(images, tokens.positions, tokens.sparse() ? torch::Tensor() : places);
  if (tokens.sparse()) {
    const torch::Tensor index = tokens.positions.unsqueeze(2).expand_as(x);
    x = x + places.expand({x.size(0), -1, -1}).gather(1, index).to(x.scalar_type());
  }
  return at::dropout(x, options_.drop_rate, patch_embed->is_training());
}

std::vector<torch::Tensor> VrwkvImpl::forward(const torch::Tensor& images) {
  const Grid grid = patch_embed->grid(images);
  const std::vector<int64_t> wanted =
      options_.out_indices.empty() ? std::vector<int64_t>{options_.depth - 1} : options_.out_indices;
  std::vector<torch::Tensor> maps;
  run_blocks(*layers, options_, embed(images, grid), grid, [&](int64_t layer, const Stream& stream) {
    if (std::find(wanted.begin(), wanted.end(), layer) == wanted.end()) return;
    const bool last = layer == options_.depth - 1;
    const torch::Tensor x = last ? final_norm(stream, *ln1) : stream.x;
    maps.push_back(x.transpose(1, 2).unflatten(2, {grid.height, grid.width}));
  });
  return maps;
}

torch::Tensor VrwkvImpl::pooled(const torch::Tensor& images) {
  const Grid grid = patch_embed->grid(images);
  const Stream last = run_blocks(*layers, options_, embed(images, grid), grid);
  // The mean of ln1 is the weight and bias of ln1 on the mean.
  const torch::Tensor mean = ops::token_mean(last.feed).to(ln1->weight.scalar_type());
  return at::addcmul(ln1->bias, mean, ln1->weight);
}

torch::Tensor VrwkvImpl::visible(const torch::Tensor& images, const torch::Tensor& positions, int64_t pos_embed_times) {
  TORCH_CHECK(positions.dim() == 2 && positions.size(0) == images.size(0) && positions.scalar_type() == at::kLong,
              "vrwkv: positions must be int64 [", images.size(0), ", T], got ", positions.scalar_type(), " ",
              positions.sizes());
  const Tokens tokens(patch_embed->grid(images), positions);
  return final_norm(run_blocks(*layers, options_, embed(images, tokens, pos_embed_times), tokens), *ln1);
}

BiWkvInputs VrwkvImpl::bi_wkv_inputs(const torch::Tensor& images, int64_t layer) {
  TORCH_CHECK(layer >= 0 && layer < num_layers(), "vrwkv: layer must be 0 to ", num_layers() - 1, ", got ", layer);
  const Grid grid = patch_embed->grid(images);
  Stream stream{embed(images, grid), {}};
  for (int64_t before = 0; before < layer; ++before) stream = run_block(*layers, options_, before, stream, grid);
  return layers[static_cast<size_t>(layer)]->as<BlockImpl>()->bi_wkv_inputs(stream, grid);
}

int64_t VrwkvImpl::layer_id(const std::string& parameter) const {
  if (parameter == "pos_embed" || parameter.starts_with("patch_embed.")) return 0;
  const std::string prefix = "layers.";
  if (parameter.starts_with(prefix)) return std::stoll(parameter.substr(prefix.size())) + 1;
  return num_layers() + 1;
}

}  // namespace vrwkv

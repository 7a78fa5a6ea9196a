#include "vrwkv/checkpoint/autoencoder_names.h"

namespace vrwkv {

bool is_autoencoder(const std::map<std::string, torch::Tensor>& tensors) {
  return tensors.contains("mask_token") && tensors.contains("decoder_pos_embed");
}

std::optional<std::string> classifier_name(const std::string& name) {
  const std::string blocks = "blocks.";
  if (name.starts_with(blocks)) return "backbone.layers." + name.substr(blocks.size());
  if (name == "pos_embed" || name.starts_with("patch_embed.") || name.starts_with("ln1.")) return "backbone." + name;
  return std::nullopt;
}

}  // namespace vrwkv

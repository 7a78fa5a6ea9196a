#pragma once

#include <torch/types.h>

#include <map>
#include <optional>
#include <string>

namespace vrwkv {

/// Whether these are weights of a masked autoencoder (vrwkv/masked_autoencoder.h), by their names.
bool is_autoencoder(const std::map<std::string, torch::Tensor>& tensors);

/// The name in a classifier of a masked autoencoder's tensor: blocks.0.ln1.bias is backbone.layers.0.ln1.bias. Nothing
/// for the decoder's.
std::optional<std::string> classifier_name(const std::string& name);

}  // namespace vrwkv

#pragma once

#include <torch/nn/module.h>

#include <map>
#include <string>

namespace vrwkv {

struct LoadOptions {
  /// A position embedding (`pos_embed`, or a name that ends in `.pos_embed`) of another square grid than the model's is
  /// resized to it by bicubic interpolation, as for another input size.
  bool resize_pos_embed = false;
};

/// All parameters and buffers of a module by their full names, detached; they share the module's memory.
std::map<std::string, torch::Tensor> state_dict(const torch::nn::Module& module);

/// `value` resized to the grid of `target` where `name` is that of a position embedding and both are square ones with
/// as many channels; else itself.
torch::Tensor fit_pos_embed(const std::string& name, const torch::Tensor& value, const torch::Tensor& target);

/// Copies `tensors` into the module's parameters and buffers, converting dtype and device. Names and shapes must agree
/// exactly: throws std::runtime_error that lists all missing, unexpected and mis-shaped names together, one a line, and
/// then changes nothing.
void load_state_dict(torch::nn::Module& module, const std::map<std::string, torch::Tensor>& tensors,
                     const LoadOptions& options = {});

}  // namespace vrwkv

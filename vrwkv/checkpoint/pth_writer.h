#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <map>
#include <string>

namespace vrwkv {

/// Writes {'meta': metadata, 'state_dict': tensors}, as the published checkpoints are laid out, in the form of
/// torch.save, which Python's torch.load(weights_only=True) reads. Tensors of any device and strides are written
/// contiguous, each with a storage of its own. Writes atomically; throws std::runtime_error that names the file and the
/// reason, or the tensor whose dtype that form has no storage for.
void write_pth(const std::filesystem::path& path, const std::map<std::string, at::Tensor>& tensors,
               const std::map<std::string, std::string>& metadata);

}  // namespace vrwkv

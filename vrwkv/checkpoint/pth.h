#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <map>
#include <string>

#include "vrwkv/options.h"

namespace vrwkv {

/// What a .pth file holds.
struct PthFile {
  std::map<std::string, at::Tensor> tensors;
  std::map<std::string, std::string> metadata;  ///< The texts of its `meta`.
};

/// Whether the file starts as one of PyTorch's: a zip archive, a bare pickle or a tar.
bool looks_like_pth(const std::filesystem::path& path);

/// The weights in a file that Python's torch.save wrote (PyTorch 1.6 or newer, a zip archive): a state dict itself, or
/// one in a training checkpoint, under `state_dict` or `model` (raw), `ema_state_dict`, `model_ema` or `state_dict_ema`
/// (ema). Everything else in the file is passed over: nothing
/// of its pickle is imported, constructed or run.
///
/// Tensors of the kinds that checkpoints hold (dense; 16 dtypes) are CPU views of the memory-mapped file, which lives
/// as long as they do, with the strides and shared storages that they were saved with; changing them changes no file.
/// Storages that are compressed in the archive, or not aligned, are copied.
///
/// Throws std::runtime_error that names the file, the tensor and what is wrong; for PyTorch's older formats and for
/// TorchScript, with what to do.
PthFile read_pth(const std::filesystem::path& path, WeightSet set = WeightSet::raw);

}  // namespace vrwkv

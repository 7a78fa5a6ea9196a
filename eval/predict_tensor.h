#pragma once

#include <filesystem>

#include "eval/precision.h"
#include "vrwkv/vrwkv_classifier.h"

namespace vrwkv::eval {

/// Logits of `inputs` [B, 3, H, W], in one piece, in evaluation mode and without gradients: on the CPU, float64
/// [B, classes] when precision.dtype is float64, float32 otherwise.
at::Tensor predict_logits(VrwkvClassifier model, const at::Tensor& inputs, const Precision& precision);

/// The tensor `input` of a .safetensors file: float32 [B, 3, H, W], H and W multiples of the patch size. Throws
/// UsageError, naming the file, when it is missing or another, std::runtime_error for a damaged file.
at::Tensor read_input(const std::filesystem::path& path, const VrwkvOptions& options);

/// Writes the tensor `logits`.
void write_logits(const std::filesystem::path& path, const at::Tensor& logits);

}  // namespace vrwkv::eval

#include "eval/predict_tensor.h"

#include <ATen/ATen.h>
#include <c10/util/StringUtil.h>

#include "common/errors.h"
#include "eval/evaluator.h"
#include "vrwkv/checkpoint/safetensors.h"

namespace vrwkv::eval {

at::Tensor predict_logits(VrwkvClassifier model, const at::Tensor& inputs, const Precision& precision) {
  const EvaluationMode evaluation_mode(*model);
  const at::NoGradGuard no_grad;
  const at::ScalarType dtype = weights_dtype(precision.dtype);
  const PrecisionGuard guard(precision);
  return model->forward(inputs.to(precision.device, dtype)).to(at::kCPU, dtype);
}

at::Tensor read_input(const std::filesystem::path& path, const VrwkvOptions& options) {
  if (!std::filesystem::exists(path)) throw UsageError("--input: " + path.string() + " does not exist");
  const Safetensors file = read_safetensors(path);
  const auto found = file.tensors.find("input");
  if (found == file.tensors.end()) throw UsageError(path.string() + ": expected a tensor named 'input', there is none");
  const at::Tensor& input = found->second;
  if (input.scalar_type() != at::kFloat || input.dim() != 4 || input.size(1) != options.in_channels) {
    throw UsageError(c10::str(path.string(), ": tensor 'input' must be float32 [B, ", options.in_channels,
                              ", H, W], got ", input.scalar_type(), " ", input.sizes()));
  }
  const int64_t patch = options.patch_size;
  if (input.size(2) < patch || input.size(3) < patch || input.size(2) % patch != 0 || input.size(3) % patch != 0) {
    throw UsageError(c10::str(path.string(), ": height and width of tensor 'input' must be multiples of ",
                              "model.patch_size (", patch, "), got ", input.sizes()));
  }
  return input;
}

void write_logits(const std::filesystem::path& path, const at::Tensor& logits) {
  write_safetensors(path, {{"logits", logits}});
}

}  // namespace vrwkv::eval

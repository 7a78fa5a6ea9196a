#include <c10/cuda/CUDAGuard.h>
#include <torch/library.h>

#include <optional>

#include "ops/cuda/dependent_launch.cuh"
#include "ops/cuda/gradient_factors.cuh"
#include "ops/cuda/tensor_lists.cuh"
#include "ops/cuda/vector.cuh"

namespace vrwkv::ops::cuda {
namespace {

constexpr int kVector = 4, kTile = kVector * kListThreads;
constexpr int kBlocks = 5;  ///< In a multiprocessor: what 48 registers a thread leave room for.

enum List { kValues, kGradients, kExpAvgs, kExpAvgSqs, kLists };

struct Settings {
  float beta1, beta2, weight_decay, eps;
  const float* lr;
  const float* steps;
  GradientFactors factors;
  const float* skip;  ///< Or null.
};

/// The formula for single numbers, operation by operation as LibTorch's fused kernels have it.
class AdamW {
 public:
  __device__ explicit AdamW(const Settings& settings)
      : settings_(settings), lr_(*settings.lr), first_(settings.factors.get(0)), second_(settings.factors.get(1)) {
    step_size_ = lr_ / (1 - powf(settings.beta1, *settings.steps));
    root_ = sqrtf(1 - powf(settings.beta2, *settings.steps));
  }

  __device__ __forceinline__ void operator()(float& value, float gradient, float& exp_avg, float& exp_avg_sq) const {
    const float g = gradient * first_ * second_;
    if (settings_.weight_decay != 0) value -= lr_ * settings_.weight_decay * value;
    exp_avg = fmaf(settings_.beta1, exp_avg, fmaf(-settings_.beta1, g, g));
    exp_avg_sq = fmaf(settings_.beta2, exp_avg_sq, fmaf(-settings_.beta2, g * g, g * g));
    const float denominator = sqrtf(exp_avg_sq) / root_ + settings_.eps;
    value -= step_size_ * exp_avg / denominator;
  }

 private:
  const Settings& settings_;
  float lr_, first_, second_, step_size_, root_;
};

__global__ void __launch_bounds__(kListThreads, kBlocks)
    adamw_kernel(const __grid_constant__ TensorLists<kLists> lists, const __grid_constant__ Settings settings) {
  start_in_turn();
  if (settings.skip != nullptr && *settings.skip == 1) return;
  const AdamW update(settings);
  for_each_tile<kTile>(lists, [&](int tensor, int64_t first) {
    const int64_t i = first + threadIdx.x * kVector, size = lists.sizes[tensor];
    float* const value = static_cast<float*>(lists.data[kValues][tensor]);
    const float* const gradient = static_cast<const float*>(lists.data[kGradients][tensor]);
    float* const exp_avg = static_cast<float*>(lists.data[kExpAvgs][tensor]);
    float* const exp_avg_sq = static_cast<float*>(lists.data[kExpAvgSqs][tensor]);
    if (i + kVector <= size && lists.is_aligned(tensor)) {
      auto p = load_vector<kVector>(value + i);
      const auto g = load_vector<kVector>(gradient + i);
      auto m = load_vector<kVector>(exp_avg + i), v = load_vector<kVector>(exp_avg_sq + i);
#pragma unroll
      for (int c = 0; c < kVector; ++c) update(p.values[c], g.values[c], m.values[c], v.values[c]);
      store_vector(value + i, p);
      store_vector(exp_avg + i, m);
      store_vector(exp_avg_sq + i, v);
    } else {
      for (int64_t j = i; j < min(i + kVector, size); ++j) update(value[j], gradient[j], exp_avg[j], exp_avg_sq[j]);
    }
  });
}

void check(const char* name, at::TensorList tensors, at::TensorList values) {
  TORCH_CHECK(tensors.size() == values.size(), "adamw_step: ", name, " must be ", values.size(), " tensors, got ",
              tensors.size());
  for (size_t i = 0; i < values.size(); ++i) {
    const at::Tensor& tensor = tensors[i];
    TORCH_CHECK(tensor.scalar_type() == at::kFloat && tensor.is_contiguous() && tensor.device() == values[0].device() &&
                    tensor.numel() == values[i].numel(),
                "adamw_step: ", name, " must be contiguous, float32, on ", values[0].device(), " and of ",
                values[i].sizes(), ", got ", tensor.sizes(), " of ", tensor.scalar_type(), " on ", tensor.device());
  }
}

void adamw_step(at::TensorList values, at::TensorList gradients, at::TensorList exp_avgs, at::TensorList exp_avg_sqs,
                const at::Tensor& lr, const at::Tensor& steps, double beta1, double beta2, double weight_decay,
                double eps, at::TensorList factors, const std::optional<at::Tensor>& skip) {
  if (values.empty()) return;
  check("values", values, values);
  check("gradients", gradients, values);
  check("exp_avgs", exp_avgs, values);
  check("exp_avg_sqs", exp_avg_sqs, values);
  const auto scalar = [&](const char* name, const at::Tensor& tensor) {
    return device_scalar("adamw_step", name, tensor, values[0].device());
  };
  const Settings settings{static_cast<float>(beta1),
                          static_cast<float>(beta2),
                          static_cast<float>(weight_decay),
                          static_cast<float>(eps),
                          scalar("lr", lr),
                          scalar("steps", steps),
                          gradient_factors("adamw_step", factors, values[0].device()),
                          skip ? scalar("skip", *skip) : nullptr};
  const c10::cuda::CUDAGuard guard(values[0].device());
  for_each_launch<kTile, kLists>({values.vec(), gradients.vec(), exp_avgs.vec(), exp_avg_sqs.vec()},
                                 resident_blocks(adamw_kernel), [&](const TensorLists<kLists>& lists, int blocks) {
                                   launch_dependent(adamw_kernel, static_cast<unsigned>(blocks), kListThreads, lists,
                                                    settings);
                                 });
  for (const at::TensorList changed : {values, exp_avgs, exp_avg_sqs}) {
    for (const at::Tensor& tensor : changed) tensor.unsafeGetTensorImpl()->bump_version();
  }
}

}  // namespace

TORCH_LIBRARY_IMPL(vrwkv, CUDA, m) { m.impl("_adamw_step_", adamw_step); }

}  // namespace vrwkv::ops::cuda

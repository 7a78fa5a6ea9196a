// residual_mix's gradients on CUDA, of both of its operators in one kernel.

#include <ATen/Functions.h>
#include <c10/cuda/CUDAGuard.h>
#include <torch/library.h>

#include <algorithm>
#include <limits>

#include "ops/cuda/column_sums.cuh"
#include "ops/cuda/hopper/launch.cuh"
#include "ops/cuda/hopper/residual_mix_backward.cuh"
#include "ops/cuda/token_shift_launch.cuh"

namespace vrwkv::ops::cuda::hopper {
namespace {

using OptionalTensor = std::optional<at::Tensor>;
using Gradients = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor>;

constexpr int64_t kFewestChannels = 256, kMostChannels = 32 * kMixedMostWarps * kMixedVector;

bool is_joined(const at::Tensor& x, const at::Tensor& value) {
  const auto narrow = value.scalar_type();
  return has_wgmma(x.device()) && x.dim() == 3 && x.scalar_type() == at::kFloat &&
         (narrow == at::kBFloat16 || narrow == at::kHalf) && x.numel() > 0 &&
         x.numel() <= std::numeric_limits<int>::max() && x.size(2) % (32 * kMixedVector) == 0 &&
         x.size(2) >= kFewestChannels && x.size(2) <= kMostChannels;
}

template <typename V, int kMixes, bool kGated>
Launch divide(ResidualMixes<V>& arguments, int channels) {
  const int threads = channels / kMixedVector, stage_bytes = MixedStage<V, kMixes, kGated>::kBytes * channels;
  arguments.groups = kMixedThreads / threads;
  arguments.stages = std::min(kMixedStages, kMixedRingBytes / stage_bytes);
  const auto sum_bytes = static_cast<int>(kSumBytes<float, kMixes + 2, kMixedVector>) * arguments.groups * threads;
  return {dim3(static_cast<unsigned>(at::cuda::getCurrentDeviceProperties()->multiProcessorCount)),
          dim3(static_cast<unsigned>(arguments.groups * threads + 32)),
          std::max(arguments.stages * stage_bytes, sum_bytes), /*early=*/true};
}

Gradients backward(const at::Tensor& gy_in, at::TensorList gradients_in, const at::Tensor& feed_in,
                   const at::Tensor& rstd_in, const OptionalTensor& value_in, const OptionalTensor& gate_in,
                   const OptionalTensor& mask_in, at::TensorList mixes, const OptionalTensor& weight,
                   const OptionalTensor& bias, int64_t height, int64_t width) {
  check_token_shift_mix(feed_in, mixes, weight, bias, height, width, std::nullopt);
  TORCH_CHECK(is_joined(gy_in, feed_in) && mixes.size() >= 2 && gradients_in.size() == mixes.size(),
              "_residual_mix_backward: what residual_mix's kernel serves expected, got gy ", gy_in.sizes(), " in ",
              gy_in.scalar_type(), ", feed in ", feed_in.scalar_type(), ", ", mixes.size(), " mixes and ",
              gradients_in.size(), " gradients");
  TORCH_CHECK(value_in.has_value() == gate_in.has_value(),
              "_residual_mix_backward: value must be given with a gate and not without");
  const auto narrow = feed_in.scalar_type();
  for (const at::Tensor& tensor : {gy_in, value_in.value_or(feed_in), gate_in.value_or(feed_in)}) {
    TORCH_CHECK(tensor.sizes() == feed_in.sizes() && tensor.device() == feed_in.device(),
                "_residual_mix_backward: gy, value and gate must be like feed, ", feed_in.sizes(), ", got ",
                tensor.sizes());
  }
  TORCH_CHECK(rstd_in.numel() == feed_in.size(0) * feed_in.size(1) && (!mask_in || mask_in->numel() == feed_in.size(0)),
              "_residual_mix_backward: an rstd for each token and a mask for each image expected");
  const c10::cuda::CUDAGuard guard(feed_in.device());
  const at::Tensor gy = ready(gy_in, at::kFloat), feed = ready(feed_in, narrow), rstd = ready(rstd_in, at::kFloat);
  const at::Tensor value = ready(value_in, narrow), gate = ready(gate_in, narrow), mask = ready(mask_in, at::kFloat);
  const std::vector<at::Tensor> gradients = ready(gradients_in, narrow);
  const std::vector<at::Tensor> ready_mixes = ready(mixes, at::kFloat);
  const at::Tensor ready_weight = ready(weight, at::kFloat), ready_bias = ready(bias, at::kFloat);
  const at::Tensor gx = at::empty_like(gy), gvalue = at::empty_like(feed);
  const at::Tensor ggate = gate.defined() ? at::empty_like(feed) : at::Tensor();
  const MixShape shape = shape_of("residual_mix", feed, height, width, std::nullopt);
  at::Tensor parts;
  const auto run = [&](auto v, auto count, auto gated) {
    using V = decltype(v);
    constexpr int kMixes = count();
    constexpr bool kGated = gated();
    ResidualMixes<V> arguments{};
    arguments.inputs = {pointer<V>(feed), {}, pointer<float>(ready_weight), pointer<float>(ready_bias)};
    for (size_t j = 0; j < kMixes; ++j) {
      arguments.inputs.mixes[j] = pointer<float>(ready_mixes[j]);
      arguments.outer.gradients[j] = pointer<V>(gradients[j]);
    }
    arguments.rstd = pointer<float>(rstd);
    arguments.gy = pointer<float>(gy);
    arguments.value = pointer<V>(value);
    arguments.gate = pointer<V>(gate);
    arguments.mask = pointer<float>(mask);
    arguments.gx = gx.mutable_data_ptr<float>();
    arguments.gvalue = gvalue.mutable_data_ptr<V>();
    arguments.ggate = kGated ? ggate.mutable_data_ptr<V>() : nullptr;
    const Launch how = divide<V, kMixes, kGated>(arguments, shape.channels);
    parts = at::empty({static_cast<int64_t>(how.blocks.x), kMixes + 2, shape.channels}, gy.options());
    arguments.parts = parts.mutable_data_ptr<float>();
    launch(residual_mix_backward_kernel<V, kMixes, kGated>, how, shape, arguments);
  };
  const auto with_gate = [&](auto v, auto count) {
    gate.defined() ? run(v, count, std::true_type()) : run(v, count, std::false_type());
  };
  const auto with_count = [&](auto v) {
    mixes.size() == 2 ? with_gate(v, std::integral_constant<int, 2>()) : with_gate(v, std::integral_constant<int, 3>());
  };
  narrow == at::kBFloat16 ? with_count(c10::BFloat16()) : with_count(c10::Half());
  return {gx, gvalue, ggate, column_sums(parts, 0)};
}

}  // namespace

TORCH_LIBRARY_IMPL(vrwkv, CUDA, m) {
  m.impl("_residual_mix_is_joined", is_joined);
  m.impl("_residual_mix_backward", backward);
}

}  // namespace vrwkv::ops::cuda::hopper

// residual_mix's gradients on CUDA, of both of its operators in one kernel.

#include <ATen/Functions.h>
#include <c10/cuda/CUDAGuard.h>
#include <torch/library.h>

#include <algorithm>
#include <limits>

#include "ops/cuda/hopper/launch.cuh"
#include "ops/cuda/hopper/residual_mix_backward.cuh"
#include "ops/cuda/token_shift_launch.cuh"
#include "ops/residual_add_check.h"

namespace vrwkv::ops::cuda::hopper {
namespace {

using OptionalTensor = std::optional<at::Tensor>;
using Gradients = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor>;

/// Fewer have more groups than there are barriers for them.
constexpr int64_t kFewestChannels = 256;

bool is_joined(const at::Tensor& x, const at::Tensor& value) {
  const auto narrow = value.scalar_type();
  return has_wgmma(x.device()) && x.dim() == 3 && x.scalar_type() == at::kFloat &&
         (narrow == at::kBFloat16 || narrow == at::kHalf) && x.numel() > 0 &&
         x.numel() <= std::numeric_limits<int>::max() && x.size(2) % (32 * kMixedVector) == 0 &&
         x.size(2) >= kFewestChannels && x.size(2) <= MixedStage<float, 1, false>::kMostChannels;
}

template <typename V, int kMixes, bool kGated>
Launch divide(ResidualMixes<V>& arguments, int channels) {
  using Stage = MixedStage<V, kMixes, kGated>;
  constexpr int kRingBytes = 208 * 1024, kStageBytes = static_cast<int>(sizeof(Stage));
  const int threads = channels / kMixedVector, groups = kMixedThreads / threads;
  const int ahead = std::min({kMixedStages, kMixedBytesAhead / (Stage::kBytes * channels), kRingBytes / kStageBytes});
  arguments.groups = groups;
  arguments.stages = std::max(1, ahead / groups) * groups;
  const auto sum_bytes = static_cast<int>(kSumBytes<float, kMixes + 2, kMixedVector>) * groups * threads;
  return {dim3(static_cast<unsigned>(at::cuda::getCurrentDeviceProperties()->multiProcessorCount)),
          dim3(static_cast<unsigned>(groups * threads + 32)), std::max(arguments.stages * kStageBytes, sum_bytes),
          /*early=*/true};
}

Gradients backward(const at::Tensor& gy_in, at::TensorList gradients_in, const at::Tensor& feed_in,
                   const at::Tensor& value_in, const OptionalTensor& gate_in, const at::Tensor& norm_weight_in,
                   const at::Tensor& norm_bias_in, const OptionalTensor& scale_in, const OptionalTensor& mask_in,
                   at::TensorList mixes_in, int64_t height, int64_t width, double eps) {
  check_token_shift_mix(feed_in, mixes_in, std::nullopt, std::nullopt, height, width, std::nullopt);
  check_residual_add(gy_in, residual_branch(value_in, gate_in, norm_weight_in, norm_bias_in, scale_in, mask_in),
                     static_cast<int64_t>(Feed::cast));
  const auto narrow = feed_in.scalar_type();
  TORCH_CHECK(is_joined(gy_in, value_in) && mixes_in.size() >= 2,
              "_residual_mix_backward: what residual_mix's kernel serves expected, got gy ", gy_in.sizes(), " in ",
              gy_in.scalar_type(), ", value in ", value_in.scalar_type(), " and ", mixes_in.size(), " mixes");
  const auto is_like = [&](const at::Tensor& tensor) {
    return tensor.sizes() == gy_in.sizes() && tensor.device() == gy_in.device() && tensor.scalar_type() == narrow;
  };
  TORCH_CHECK(is_like(feed_in) && is_like(value_in) && gradients_in.size() == mixes_in.size() &&
                  std::all_of(gradients_in.begin(), gradients_in.end(), is_like),
              "_residual_mix_backward: feed and a gradient for each mix must be like value, ", value_in.sizes());
  const c10::cuda::CUDAGuard guard(gy_in.device());
  const at::Tensor gy = ready(gy_in, at::kFloat), feed = ready(feed_in, narrow), value = ready(value_in, narrow);
  const at::Tensor gate = ready(gate_in, narrow), mask = ready(mask_in, at::kFloat);
  const at::Tensor norm_weight = ready(norm_weight_in, at::kFloat), norm_bias = ready(norm_bias_in, at::kFloat);
  const at::Tensor scale = ready(scale_in, at::kFloat);
  const std::vector<at::Tensor> gradients = ready(gradients_in, narrow), mixes = ready(mixes_in, at::kFloat);
  const at::Tensor gx = at::empty_like(gy), gvalue = at::empty_like(value);
  const at::Tensor ggate = gate.defined() ? at::empty_like(value) : at::Tensor();
  const at::Tensor gnorm_weight = at::empty_like(norm_weight), gnorm_bias = at::empty_like(norm_bias);
  const at::Tensor gscale = scale.defined() ? at::empty_like(scale) : at::Tensor();
  const MixShape shape = shape_of("residual_mix", feed, height, width, std::nullopt);
  const at::Tensor gmixes = at::empty({static_cast<int64_t>(mixes.size()), shape.channels}, gy.options());

  const auto run = [&](auto v, auto count, auto gated) {
    using V = decltype(v);
    constexpr int kMixes = count();
    constexpr bool kGated = gated();
    ResidualMixes<V> arguments{};
    arguments.inputs.x = pointer<V>(feed);
    for (size_t j = 0; j < kMixes; ++j) {
      arguments.inputs.mixes[j] = pointer<float>(mixes[j]);
      arguments.outer.gradients[j] = pointer<V>(gradients[j]);
    }
    arguments.gy = pointer<float>(gy);
    arguments.value = pointer<V>(value);
    arguments.gate = pointer<V>(gate);
    arguments.norm_weight = pointer<float>(norm_weight);
    arguments.scale = pointer<float>(scale);
    arguments.mask = pointer<float>(mask);
    arguments.eps = static_cast<float>(eps);
    arguments.gx = gx.mutable_data_ptr<float>();
    arguments.gvalue = gvalue.mutable_data_ptr<V>();
    arguments.ggate = kGated ? ggate.mutable_data_ptr<V>() : nullptr;
    const Launch how = divide<V, kMixes, kGated>(arguments, shape.channels);
    const at::Tensor parts = at::empty({kMixes + 2, static_cast<int64_t>(how.blocks.x), shape.channels}, gy.options());
    arguments.parts = parts.mutable_data_ptr<float>();
    launch(residual_mix_backward_kernel<V, kMixes, kGated>, how, shape, arguments);
    launch_dependent(mixed_parameters_kernel<kMixes>,
                     static_cast<unsigned>((shape.channels + kSumColumns - 1) / kSumColumns), kSumThreads,
                     arguments.parts, static_cast<int>(how.blocks.x), shape.channels,
                     BranchParameters{arguments.norm_weight, pointer<float>(norm_bias), arguments.scale,
                                      gnorm_weight.mutable_data_ptr<float>(), gnorm_bias.mutable_data_ptr<float>(),
                                      scale.defined() ? gscale.mutable_data_ptr<float>() : nullptr},
                     gmixes.mutable_data_ptr<float>());
  };
  const auto with_gate = [&](auto v, auto count) {
    gate.defined() ? run(v, count, std::true_type()) : run(v, count, std::false_type());
  };
  const auto with_count = [&](auto v) {
    mixes.size() == 2 ? with_gate(v, std::integral_constant<int, 2>()) : with_gate(v, std::integral_constant<int, 3>());
  };
  narrow == at::kBFloat16 ? with_count(c10::BFloat16()) : with_count(c10::Half());
  return {gx,
          gvalue,
          ggate,
          gnorm_weight.to(norm_weight_in.scalar_type()),
          gnorm_bias.to(norm_bias_in.scalar_type()),
          scale_in ? gscale.to(scale_in->scalar_type()) : gscale,
          gmixes};
}

}  // namespace

TORCH_LIBRARY_IMPL(vrwkv, CUDA, m) {
  m.impl("_residual_mix_is_joined", is_joined);
  m.impl("_residual_mix_backward", backward);
}

}  // namespace vrwkv::ops::cuda::hopper

#include <ATen/Functions.h>
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <torch/library.h>

#include <algorithm>
#include <array>

#include "ops/cuda/dependent_launch.cuh"
#include "ops/cuda/residual_add_backward.cuh"

namespace vrwkv::ops::cuda {
namespace {

using OptionalTensor = std::optional<at::Tensor>;
using Gradients = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor>;

/// Blocks of `kernel` that the device runs at once, and no more than `needed`.
template <typename Kernel>
int blocks_of(Kernel kernel, int64_t needed) {
  int per_processor = 0;
  C10_CUDA_CHECK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&per_processor, kernel, kThreads, 0));
  const int64_t at_once = int64_t{per_processor} * at::cuda::getCurrentDeviceProperties()->multiProcessorCount;
  return static_cast<int>(std::max<int64_t>(1, std::min(at_once, needed)));
}

Gradients backward(const OptionalTensor& gy_in, const OptionalTensor& gfeed_in, const OptionalTensor& value_in,
                   const OptionalTensor& gate_in, const OptionalTensor& norm_weight_in,
                   const OptionalTensor& norm_bias_in, const OptionalTensor& scale_in, const OptionalTensor& mask_in,
                   const OptionalTensor& fed_in, const OptionalTensor& rstd_in, at::ScalarType x_dtype,
                   at::ScalarType value_dtype, double eps, std::array<bool, 6> needed) {
  TORCH_CHECK(gy_in || gfeed_in, "_residual_add_backward: gy or gfeed must be given, got neither");
  const at::Tensor& like = gy_in ? *gy_in : *gfeed_in;
  TORCH_CHECK(like.dim() == 3, "_residual_add_backward: gradients must be [B, T, C], got ", like.sizes());
  for (const OptionalTensor& tensor : {gfeed_in, value_in, gate_in, fed_in}) {
    TORCH_CHECK(!tensor || (tensor->sizes() == like.sizes() && tensor->device() == like.device()),
                "_residual_add_backward: gfeed, value, gate and fed must be like the gradient, ", like.sizes(), " on ",
                like.device(), ", got ", tensor->sizes(), " on ", tensor->device());
  }
  TORCH_CHECK(value_in || !(gate_in || norm_weight_in || scale_in),
              "_residual_add_backward: value must be given with a gate, a norm or a scale");
  const c10::cuda::CUDAGuard guard(like.device());
  const at::Tensor gy = contiguous_part(gy_in), gfeed = contiguous_part(gfeed_in), value = contiguous_part(value_in);
  // Without a gradient of the feed it does not matter how the feed was made.
  const at::Tensor gate = contiguous_part(gate_in), fed = gfeed.defined() ? contiguous_part(fed_in) : at::Tensor();
  const at::Tensor norm_weight = float_part(norm_weight_in), norm_bias = float_part(norm_bias_in);
  const at::Tensor scale = float_part(scale_in), mask = float_part(mask_in);
  const int64_t channels = like.size(2), rows = like.size(0) * like.size(1);
  const bool has_parameters = norm_weight.defined() || scale.defined();

  const auto tensor_like = [&](bool wanted, at::ScalarType dtype) {
    return wanted ? at::empty(like.sizes(), like.options().dtype(dtype)) : at::Tensor();
  };
  const at::Tensor gx = tensor_like(needed[0], x_dtype), gvalue = tensor_like(needed[1], value_dtype);
  const at::Tensor ggate = tensor_like(needed[2], value_dtype);
  const bool sums_needed = needed[3] || needed[4] || needed[5];
  const auto channel_sums = [&](const at::Tensor& parameter) {
    if (!sums_needed || !parameter.defined()) return at::Tensor();
    return rows * channels == 0 ? at::zeros_like(parameter) : at::empty_like(parameter);
  };
  const at::Tensor gnorm_weight = channel_sums(norm_weight), gnorm_bias = channel_sums(norm_bias);
  const at::Tensor gscale = channel_sums(scale);
  const auto in_dtype_of = [](const at::Tensor& gradient, bool wanted, const OptionalTensor& parameter) {
    return wanted ? gradient.to(parameter->scalar_type()) : at::Tensor();
  };
  const auto results = [&]() -> Gradients {
    return {gx,
            gvalue,
            ggate,
            in_dtype_of(gnorm_weight, needed[3], norm_weight_in),
            in_dtype_of(gnorm_bias, needed[4], norm_bias_in),
            in_dtype_of(gscale, needed[5], scale_in)};
  };
  if (rows * channels == 0) return results();

  const bool aligned = is_aligned({gy, gfeed, value, gate, norm_weight, scale, fed, gx, gvalue, ggate});
  with_dtypes(x_dtype, value_dtype, [&](auto x_tag, auto value_tag) {
    using X = typename decltype(x_tag)::Type;
    using V = typename decltype(value_tag)::Type;
    BackwardArguments<X, V> arguments{
        static_cast<int>(rows),       static_cast<int>(like.size(1)),
        static_cast<int>(channels),   1.0F / static_cast<float>(channels),
        static_cast<float>(eps),      pointer_to<X>(gy),
        pointer_to<V>(gfeed),         pointer_to<V>(value),
        pointer_to<V>(gate),          pointer_to<float>(norm_weight),
        pointer_to<float>(scale),     pointer_to<float>(mask),
        pointer_to<V>(fed),           fed.defined() ? rstd_in->const_data_ptr<float>() : nullptr,
        mutable_pointer_to<X>(gx),    mutable_pointer_to<V>(gvalue),
        mutable_pointer_to<V>(ggate), nullptr};
    with_layout(channels, aligned, [&](auto layout) {
      using L = decltype(layout);
      const int64_t most_blocks = (rows + L::kRowsPerBlock - 1) / L::kRowsPerBlock;
      if (!has_parameters) {
        launch_dependent(backward_kernel<X, V, L, false>, static_cast<unsigned>(most_blocks), kThreads, arguments);
        return;
      }
      const int blocks = blocks_of(backward_kernel<X, V, L, true>, most_blocks);
      const at::Tensor parts = at::empty({2, blocks, channels}, like.options().dtype(at::kFloat));
      arguments.parts = parts.mutable_data_ptr<float>();
      launch_dependent(backward_kernel<X, V, L, true>, static_cast<unsigned>(blocks), kThreads, arguments);
      if (!sums_needed) return;
      const auto sum_blocks = static_cast<unsigned int>((channels + kSumColumns - 1) / kSumColumns);
      launch_dependent(parameter_gradient_kernel, sum_blocks, kSumThreads, arguments.parts, blocks,
                       static_cast<int>(channels),
                       BranchParameters{pointer_to<float>(norm_weight), pointer_to<float>(norm_bias),
                                        pointer_to<float>(scale), mutable_pointer_to<float>(gnorm_weight),
                                        mutable_pointer_to<float>(gnorm_bias), mutable_pointer_to<float>(gscale)});
    });
  });
  return results();
}

}  // namespace

TORCH_LIBRARY_IMPL(vrwkv, CUDA, m) { m.impl("_residual_add_backward", backward); }

}  // namespace vrwkv::ops::cuda

#include <ATen/Dispatch.h>
#include <ATen/Functions.h>
#include <ATen/OpMathType.h>
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <torch/library.h>

#include <algorithm>
#include <limits>

#include "ops/cuda/column_sums.cuh"
#include "ops/cuda/head_norm_gate.cuh"
#include "ops/head_norm_gate_check.h"

namespace vrwkv::ops::cuda {
namespace {

/// Inputs of one call as the kernels read them, for accumulation type T and storage type In.
template <typename T, typename In>
struct HeadNormTensors {
  HeadNormTensors(const at::Tensor& y_in, const at::Tensor& gate_in, const at::Tensor& weight_in,
                  const at::Tensor& bias_in, double eps_in)
      : y(aligned(y_in, kBytes)),
        gate(aligned(gate_in, kBytes)),
        weight(parameter(weight_in)),
        bias(parameter(bias_in)),
        eps(eps_in) {}

  head_norm::Inputs<T, In> pointers() const {
    return {y.const_data_ptr<In>(),   gate.const_data_ptr<In>(),    weight.const_data_ptr<T>(),
            bias.const_data_ptr<T>(), y.numel() / head_norm::kHead, heads(),
            static_cast<T>(eps)};
  }

  int heads() const { return static_cast<int>(y.size(2) / head_norm::kHead); }

  /// As many blocks of `kernel` as run at once or as there are rows for, and whole tokens together.
  template <typename Kernel>
  unsigned blocks(Kernel kernel) const {
    int resident = 0;
    C10_CUDA_CHECK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&resident, kernel, head_norm::kThreads, 0));
    const int64_t at_once =
        static_cast<int64_t>(std::max(1, resident)) * at::cuda::getCurrentDeviceProperties()->multiProcessorCount;
    const int64_t needed = (y.numel() / head_norm::kHead + head_norm::kRows<In> - 1) / head_norm::kRows<In>;
    const int64_t whole = std::max<int64_t>(1, std::min(at_once / heads(), (needed + heads() - 1) / heads()));
    return static_cast<unsigned>(whole * heads());
  }

  at::Tensor y, gate, weight, bias;
  double eps;

  static constexpr uintptr_t kBytes = head_norm::kVector<In> * sizeof(In);

 private:
  static at::Tensor parameter(const at::Tensor& tensor) {
    return aligned(tensor.to(c10::CppTypeToScalarType<T>::value), kParameterBytes);
  }
};

void check_size(const at::Tensor& y) {
  TORCH_CHECK(y.size(2) <= std::numeric_limits<int>::max() / 4, "head_norm_gate: y is too large for CUDA: ", y.sizes());
}

at::Tensor forward(const at::Tensor& y, const at::Tensor& gate, const at::Tensor& weight, const at::Tensor& bias,
                   int64_t heads, double eps) {
  check_head_norm_gate(y, gate, weight, bias, heads);
  if (!head_norm_gate_is_fused(y, heads)) return head_norm_gate_composite(y, gate, weight, bias, heads, eps);
  check_size(y);
  const c10::cuda::CUDAGuard guard(y.device());
  at::Tensor out = at::empty_like(y, at::MemoryFormat::Contiguous);
  if (y.numel() == 0) return out;
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, y.scalar_type(), "head_norm_gate", [&] {
    using T = at::opmath_type<scalar_t>;
    const HeadNormTensors<T, scalar_t> tensors(y, gate, weight, bias, eps);
    const auto kernel = head_norm::forward_kernel<T, scalar_t>;
    kernel<<<tensors.blocks(kernel), head_norm::kThreads, 0, at::cuda::getCurrentCUDAStream()>>>(
        tensors.pointers(), out.mutable_data_ptr<scalar_t>());
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  });
  return out;
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> backward(const at::Tensor& y, const at::Tensor& gate,
                                                        const at::Tensor& weight, const at::Tensor& bias,
                                                        const at::Tensor& gradient, double eps) {
  const int64_t heads = y.dim() == 3 ? y.size(2) / kBiWkv6HeadSize : 0;
  check_head_norm_gate(y, gate, weight, bias, heads);
  TORCH_CHECK(head_norm_gate_is_fused(y, heads), "_head_norm_gate_backward: y must have heads of ", kBiWkv6HeadSize,
              " channels, got ", y.sizes());
  check_size(y);
  const c10::cuda::CUDAGuard guard(y.device());
  at::Tensor gy = at::empty_like(y, at::MemoryFormat::Contiguous);
  at::Tensor ggate = at::empty_like(gate, at::MemoryFormat::Contiguous);
  const auto sums_options = y.options().dtype(at::toOpMathType(y.scalar_type()));
  if (y.numel() == 0) return {gy, ggate, at::zeros({2, y.size(2)}, sums_options)};
  at::Tensor parts;
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, y.scalar_type(), "head_norm_gate_backward", [&] {
    using T = at::opmath_type<scalar_t>;
    const HeadNormTensors<T, scalar_t> tensors(y, gate, weight, bias, eps);
    const at::Tensor outer = aligned(gradient, tensors.kBytes);
    const auto kernel = head_norm::backward_kernel<T, scalar_t>;
    const unsigned blocks = tensors.blocks(kernel);
    parts = at::empty({blocks, 2, y.size(2)}, sums_options);
    kernel<<<blocks, head_norm::kThreads, 0, at::cuda::getCurrentCUDAStream()>>>(
        tensors.pointers(), outer.template const_data_ptr<scalar_t>(), gy.mutable_data_ptr<scalar_t>(),
        ggate.mutable_data_ptr<scalar_t>(), parts.mutable_data_ptr<T>());
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  });
  return {gy, ggate, column_sums(parts, 0)};
}

}  // namespace

TORCH_LIBRARY_IMPL(vrwkv, CUDA, m) {
  m.impl("head_norm_gate", forward);
  m.impl("_head_norm_gate_backward", backward);
}

}  // namespace vrwkv::ops::cuda

#include <ATen/Dispatch.h>
#include <ATen/Functions.h>
#include <ATen/OpMathType.h>
#include <ATen/TensorIterator.h>
#include <c10/cuda/CUDAGuard.h>
#include <torch/library.h>

#include <ATen/native/cuda/Loops.cuh>

namespace vrwkv::ops::cuda {
namespace {

at::Tensor forward(const at::Tensor& x) {
  TORCH_CHECK(x.is_floating_point(), "squared_relu: x must be a floating point tensor, got ", x.scalar_type());
  const c10::cuda::CUDAGuard guard(x.device());
  at::Tensor y;
  auto iterator = at::TensorIterator::unary_op(y, x);
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, x.scalar_type(), "squared_relu", [&] {
    using T = at::opmath_type<scalar_t>;
    at::native::gpu_kernel(iterator, [] GPU_LAMBDA(scalar_t value) -> scalar_t {
      const T wide = static_cast<T>(value);
      return static_cast<scalar_t>(wide <= T(0) ? T(0) : wide * wide);  // A NaN is not <= 0.
    });
  });
  return iterator.output();
}

at::Tensor backward(const at::Tensor& saved, const at::Tensor& gy, bool saved_is_result) {
  const c10::cuda::CUDAGuard guard(saved.device());
  at::Tensor gx;
  auto iterator = at::TensorIterator::binary_op(gx, saved, gy);
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, saved.scalar_type(), "squared_relu_backward", [&] {
    using T = at::opmath_type<scalar_t>;
    at::native::gpu_kernel(iterator, [saved_is_result] GPU_LAMBDA(scalar_t value, scalar_t gradient) -> scalar_t {
      const T wide = static_cast<T>(value);
      const T relu = saved_is_result ? ::sqrt(wide) : (wide <= T(0) ? T(0) : wide);
      return static_cast<scalar_t>(T(2) * relu * static_cast<T>(gradient));
    });
  });
  return iterator.output();
}

}  // namespace

TORCH_LIBRARY_IMPL(vrwkv, CUDA, m) {
  m.impl("squared_relu", forward);
  m.impl("_squared_relu_backward", backward);
}

}  // namespace vrwkv::ops::cuda

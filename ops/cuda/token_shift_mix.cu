#include <ATen/Dispatch.h>
#include <c10/cuda/CUDAGuard.h>
#include <torch/library.h>

#include "ops/cuda/column_sums.cuh"
#include "ops/cuda/token_shift_launch.cuh"

namespace vrwkv::ops::cuda {
namespace {

template <typename T, typename In>
MixInputs<T, In> inputs_of(const at::Tensor& x, const MixParameters<T>& parameters) {
  MixInputs<T, In> inputs{
      x.const_data_ptr<In>(), {}, parameters.pointer(parameters.weight), parameters.pointer(parameters.bias)};
  for (size_t j = 0; j < parameters.mixes.size(); ++j) inputs.mixes[j] = parameters.pointer(parameters.mixes[j]);
  return inputs;
}

/// Calls `body(vector, mixes)` with both as compile-time constants.
template <int kWidest, typename Body>
void with_constants(bool vectorize, size_t mixes, const Body& body) {
  with_vector<kWidest>(vectorize, [&](auto vector) {
    if (mixes == 1) body(vector, std::integral_constant<int, 1>());
    if (mixes == 2) body(vector, std::integral_constant<int, 2>());
    if (mixes == 3) body(vector, std::integral_constant<int, 3>());
  });
}

std::vector<at::Tensor> forward(const at::Tensor& x_in, at::TensorList mixes, const std::optional<at::Tensor>& weight,
                                const std::optional<at::Tensor>& bias, int64_t height, int64_t width,
                                std::optional<int64_t> group) {
  check_token_shift_mix(x_in, mixes, weight, bias, height, width, group);
  const c10::cuda::CUDAGuard guard(x_in.device());
  const at::Tensor x = x_in.contiguous();
  std::vector<int64_t> sizes = x.sizes().vec();
  sizes.insert(sizes.begin(), static_cast<int64_t>(mixes.size()));
  // In one tensor, for linear_weight_gradients().
  std::vector<at::Tensor> outputs = at::empty(sizes, x.options()).unbind();
  if (x.numel() == 0) return outputs;
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, x.scalar_type(), "token_shift_mix", [&] {
    using T = at::opmath_type<scalar_t>;
    constexpr int kWidest = 16 / sizeof(scalar_t);
    const MixParameters<T> parameters(mixes, weight, bias);
    MixOutputs<scalar_t> pointers{};
    for (size_t j = 0; j < outputs.size(); ++j) pointers.out[j] = outputs[j].mutable_data_ptr<scalar_t>();
    const MixShape shape = shape_of("token_shift_mix", x, height, width, group);
    with_constants<kWidest>(can_vectorize(shape, {x}, parameters.all(), kWidest), mixes.size(),
                            [&](auto vector, auto count) {
                              const auto kernel = mix_kernel<T, scalar_t, vector, count>;
                              launch(kernel, divide(shape, vector, kernel, kMixUnroll, 0), shape,
                                     inputs_of<T, scalar_t>(x, parameters), pointers);
                            });
  });
  return outputs;
}

std::tuple<at::Tensor, at::Tensor> backward(const at::Tensor& x_in, at::TensorList mixes,
                                            const std::optional<at::Tensor>& weight,
                                            const std::optional<at::Tensor>& bias, at::TensorList gradients_in,
                                            int64_t height, int64_t width, std::optional<int64_t> group) {
  check_token_shift_mix(x_in, mixes, weight, bias, height, width, group);
  const c10::cuda::CUDAGuard guard(x_in.device());
  const at::Tensor x = x_in.contiguous();
  const auto sums_count = static_cast<int64_t>(mixes.size()) + 2;
  const auto sums_options = x.options().dtype(at::toOpMathType(x.scalar_type()));
  at::Tensor gx = at::empty_like(x);
  if (x.numel() == 0) return {gx, at::zeros({sums_count, x.size(2)}, sums_options)};
  at::Tensor sums;
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, x.scalar_type(), "token_shift_mix_backward", [&] {
    using T = at::opmath_type<scalar_t>;
    constexpr int kWidest = 8 / sizeof(scalar_t);  // Narrower than in the forward pass: every channel has sums to keep.
    const MixParameters<T> parameters(mixes, weight, bias);
    std::vector<at::Tensor> read{x};
    MixGradients<scalar_t> pointers{};
    for (size_t j = 0; j < gradients_in.size(); ++j) {
      read.push_back(gradients_in[j].contiguous());
      pointers.gradients[j] = read.back().template const_data_ptr<scalar_t>();
    }
    const MixShape shape = shape_of("token_shift_mix", x, height, width, group);
    with_constants<kWidest>(
        can_vectorize(shape, read, parameters.all(), kWidest), mixes.size(), [&](auto vector, auto count) {
          const auto kernel = mix_backward_kernel<T, scalar_t, vector, count>;
          MixSegments segments{};
          const Launch how =
              divide_walk(shape, segments, vector, kernel, MixBackward<T, scalar_t, vector, count>::kShared);
          const at::Tensor parts = at::empty({sums_count, static_cast<int64_t>(how.blocks.x), x.size(2)}, sums_options);
          launch(kernel, how, shape, segments, inputs_of<T, scalar_t>(x, parameters), pointers,
                 gx.mutable_data_ptr<scalar_t>(), parts.mutable_data_ptr<T>());
          sums = column_sums(parts, 1);
        });
  });
  return {gx, sums};
}

}  // namespace

TORCH_LIBRARY_IMPL(vrwkv, CUDA, m) {
  m.impl("token_shift_mix", forward);
  m.impl("_token_shift_mix_backward", backward);
}

}  // namespace vrwkv::ops::cuda

#include <ATen/Dispatch.h>
#include <c10/cuda/CUDAGuard.h>
#include <torch/library.h>

#include "ops/cuda/column_sums.cuh"
#include "ops/cuda/token_shift_blend.cuh"
#include "ops/cuda/token_shift_launch.cuh"

namespace vrwkv::ops::cuda {
namespace {

/// Channels of a thread: every one has a vector of seven parameters.
template <typename In>
constexpr int kBlendWidth = 8 / sizeof(In);

template <typename T, typename In>
BlendInputs<T, In> inputs_of(const at::Tensor& x, const at::Tensor& shares, const MixParameters<T>& parameters) {
  BlendInputs<T, In> inputs{x.const_data_ptr<In>(),
                            shares.const_data_ptr<In>(),
                            {},
                            parameters.pointer(parameters.weight),
                            parameters.pointer(parameters.bias)};
  for (size_t j = 0; j < kBlends; ++j) inputs.constants[j] = parameters.pointer(parameters.mixes[j]);
  return inputs;
}

std::vector<at::Tensor> forward(const at::Tensor& x_in, at::TensorList constants, const at::Tensor& shares_in,
                                const std::optional<at::Tensor>& weight, const std::optional<at::Tensor>& bias,
                                int64_t height, int64_t width, std::optional<int64_t> group) {
  check_token_shift_blend(x_in, constants, shares_in, weight, bias, height, width, group);
  const c10::cuda::CUDAGuard guard(x_in.device());
  const at::Tensor x = x_in.contiguous(), shares = shares_in.contiguous();
  std::vector<at::Tensor> outputs;
  for (size_t j = 0; j < kBlends; ++j) outputs.push_back(at::empty_like(x));
  if (x.numel() == 0) return outputs;
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, x.scalar_type(), "token_shift_blend", [&] {
    using T = at::opmath_type<scalar_t>;
    const MixParameters<T> parameters(constants, weight, bias);
    BlendTensors<scalar_t> pointers{};
    for (size_t j = 0; j < kBlends; ++j) pointers.tensors[j] = outputs[j].mutable_data_ptr<scalar_t>();
    const MixShape shape = shape_of("token_shift_blend", x, height, width, group);
    constexpr int kWidest = kBlendWidth<scalar_t>;
    with_vector<kWidest>(can_vectorize(shape, {x, shares}, parameters.all(), kWidest), [&](auto vector) {
      const auto kernel = blend_kernel<T, scalar_t, vector>;
      launch(kernel, divide(shape, vector, kernel, kMixUnroll, 0), shape, inputs_of<T, scalar_t>(x, shares, parameters),
             pointers);
    });
  });
  return outputs;
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> backward(const at::Tensor& x_in, at::TensorList constants,
                                                        const at::Tensor& shares_in,
                                                        const std::optional<at::Tensor>& weight,
                                                        const std::optional<at::Tensor>& bias,
                                                        at::TensorList gradients_in, int64_t height, int64_t width,
                                                        std::optional<int64_t> group) {
  check_token_shift_blend(x_in, constants, shares_in, weight, bias, height, width, group);
  TORCH_CHECK(gradients_in.size() == kBlends, "_token_shift_blend_backward: gradients must be ", kBlends,
              " tensors, got ", gradients_in.size());
  const c10::cuda::CUDAGuard guard(x_in.device());
  const at::Tensor x = x_in.contiguous(), shares = shares_in.contiguous();
  const auto sums_count = static_cast<int64_t>(kBlends) + 2;
  const auto sums_options = x.options().dtype(at::toOpMathType(x.scalar_type()));
  at::Tensor gx = at::empty_like(x), gshares = at::empty_like(shares);
  if (x.numel() == 0) return {gx, gshares, at::zeros({sums_count, x.size(2)}, sums_options)};
  at::Tensor sums;
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, x.scalar_type(), "token_shift_blend_backward", [&] {
    using T = at::opmath_type<scalar_t>;
    const MixParameters<T> parameters(constants, weight, bias);
    std::vector<at::Tensor> read{x, shares};
    BlendTensors<const scalar_t> pointers{};
    for (size_t j = 0; j < kBlends; ++j) {
      read.push_back(gradients_in[j].contiguous());
      pointers.tensors[j] = read.back().template const_data_ptr<scalar_t>();
    }
    const MixShape shape = shape_of("token_shift_blend", x, height, width, group);
    constexpr int kWidest = kBlendWidth<scalar_t>;
    with_vector<kWidest>(can_vectorize(shape, read, parameters.all(), kWidest), [&](auto vector) {
      const auto kernel = blend_backward_kernel<T, scalar_t, vector>;
      const Launch how = divide(shape, vector, kernel, 1, kSumBytes<T, kBlends + 2, vector>);
      const at::Tensor parts = at::empty({sums_count, static_cast<int64_t>(how.blocks.x), x.size(2)}, sums_options);
      launch(kernel, how, shape, inputs_of<T, scalar_t>(x, shares, parameters), pointers,
             gx.mutable_data_ptr<scalar_t>(), gshares.mutable_data_ptr<scalar_t>(), parts.mutable_data_ptr<T>());
      sums = column_sums(parts, 1);
    });
  });
  return {gx, gshares, sums};
}

}  // namespace

TORCH_LIBRARY_IMPL(vrwkv, CUDA, m) {
  m.impl("token_shift_blend", forward);
  m.impl("_token_shift_blend_backward", backward);
}

}  // namespace vrwkv::ops::cuda

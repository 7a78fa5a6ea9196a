#include <ATen/Dispatch.h>
#include <ATen/Functions.h>
#include <ATen/OpMathType.h>
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <torch/library.h>

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include "ops/cuda/token_shift_mix.cuh"

namespace vrwkv::ops::cuda {
namespace {

/// Contiguous inputs of one call, for accumulation type T and storage type In.
template <typename T, typename In>
struct MixTensors {
  MixTensors(const at::Tensor& x_in, at::TensorList mixes_in, const std::optional<at::Tensor>& weight_in,
             const std::optional<at::Tensor>& bias_in)
      : x(x_in.contiguous()), weight(parameter(weight_in)), bias(parameter(bias_in)) {
    for (const at::Tensor& mix : mixes_in) mixes.push_back(parameter(mix));
  }

  MixInputs<T, In> pointers() const {
    MixInputs<T, In> inputs{x.const_data_ptr<In>(), {}, pointer(weight), pointer(bias)};
    for (size_t j = 0; j < mixes.size(); ++j) inputs.mixes[j] = pointer(mixes[j]);
    return inputs;
  }

  std::vector<at::Tensor> parameters() const {
    std::vector<at::Tensor> all = mixes;
    if (weight.defined()) all.insert(all.end(), {weight, bias});
    return all;
  }

  at::Tensor x, weight, bias;
  std::vector<at::Tensor> mixes;

 private:
  static at::Tensor parameter(const std::optional<at::Tensor>& tensor) {
    return tensor ? tensor->to(c10::CppTypeToScalarType<T>::value).contiguous() : at::Tensor();
  }
  static const T* pointer(const at::Tensor& tensor) { return tensor.defined() ? tensor.const_data_ptr<T>() : nullptr; }
};

/// Whether vectors of `count` channels lie in one Q-Shift group each and are aligned in all of `tensors`, and so are
/// the `parameters`.
bool can_vectorize(const at::Tensor& x, const std::vector<at::Tensor>& tensors,
                   const std::vector<at::Tensor>& parameters, int64_t count) {
  for (int64_t g = 1; g <= 4; ++g) {
    if (x.size(2) * g / 4 % count != 0) return false;
  }
  const auto bytes = static_cast<uintptr_t>(count * x.element_size());
  const auto aligned = [](const at::Tensor& tensor) { return is_aligned(tensor, kParameterBytes); };
  return std::all_of(parameters.begin(), parameters.end(), aligned) &&
         std::all_of(tensors.begin(), tensors.end(),
                     [&](const at::Tensor& tensor) { return is_aligned(tensor, bytes); });
}

struct Launch {
  dim3 grid, block;
};

/// Divides the work of `kernel`, which takes `shared_bytes` for each thread, over as many blocks as run at once.
template <typename Kernel>
Launch divide(MixShape& shape, int vector, Kernel kernel, size_t shared_bytes) {
  const int vectors = (shape.channels + vector - 1) / vector;
  const int parts = (vectors + kThreads - 1) / kThreads;
  const int lanes = (vectors + parts - 1) / parts;
  const int rows = std::max(1, kThreads / lanes);
  const int tokens = shape.height * shape.width;
  constexpr int kTokensPerThread = 2;  // Of a strip: short ones divide evenly among the blocks.
  shape.strip = std::min(tokens, rows * kTokensPerThread);
  shape.strips = (tokens + shape.strip - 1) / shape.strip;
  int blocks = 0;
  C10_CUDA_CHECK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel, lanes * rows,
                                                               shared_bytes * static_cast<size_t>(lanes * rows)));
  const int64_t at_once =
      static_cast<int64_t>(std::max(1, blocks)) * at::cuda::getCurrentDeviceProperties()->multiProcessorCount;
  const int64_t wanted =
      std::min(static_cast<int64_t>(shape.batch) * shape.strips, std::max<int64_t>(1, at_once / parts));
  return {dim3(static_cast<unsigned>(wanted), static_cast<unsigned>(parts)),
          dim3(static_cast<unsigned>(lanes), static_cast<unsigned>(rows))};
}

MixShape shape_of(const at::Tensor& x, int64_t height, int64_t width) {
  constexpr int64_t kMax = std::numeric_limits<int>::max();
  TORCH_CHECK(x.size(0) <= kMax && x.size(1) <= kMax && x.size(2) <= kMax,
              "token_shift_mix: x is too large for CUDA: ", x.sizes());
  return {static_cast<int>(x.size(0)),
          static_cast<int>(height),
          static_cast<int>(width),
          static_cast<int>(x.size(2)),
          0,
          0};
}

/// Calls `body(vector, mixes)` with both as compile-time constants.
template <int kWidest, typename Body>
void with_constants(bool vectorize, size_t mixes, const Body& body) {
  const auto with_mixes = [&](auto vector) {
    if (mixes == 1) body(vector, std::integral_constant<int, 1>());
    if (mixes == 2) body(vector, std::integral_constant<int, 2>());
    if (mixes == 3) body(vector, std::integral_constant<int, 3>());
  };
  if (vectorize) {
    with_mixes(std::integral_constant<int, kWidest>());
  } else {
    with_mixes(std::integral_constant<int, 1>());
  }
}

std::vector<at::Tensor> forward(const at::Tensor& x, at::TensorList mixes, const std::optional<at::Tensor>& weight,
                                const std::optional<at::Tensor>& bias, int64_t height, int64_t width) {
  check_token_shift_mix(x, mixes, weight, bias, height, width);
  const c10::cuda::CUDAGuard guard(x.device());
  std::vector<at::Tensor> outputs;
  for (size_t j = 0; j < mixes.size(); ++j) outputs.push_back(at::empty_like(x, at::MemoryFormat::Contiguous));
  if (x.numel() == 0) return outputs;
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, x.scalar_type(), "token_shift_mix", [&] {
    using T = at::opmath_type<scalar_t>;
    constexpr int kWidest = 16 / sizeof(scalar_t);
    const MixTensors<T, scalar_t> tensors(x, mixes, weight, bias);
    MixOutputs<scalar_t> pointers{};
    for (size_t j = 0; j < outputs.size(); ++j) pointers.out[j] = outputs[j].mutable_data_ptr<scalar_t>();
    MixShape shape = shape_of(x, height, width);
    with_constants<kWidest>(can_vectorize(x, {tensors.x}, tensors.parameters(), kWidest), mixes.size(),
                            [&](auto vector, auto count) {
                              const auto kernel = mix_kernel<T, scalar_t, vector, count>;
                              const Launch launch = divide(shape, vector, kernel, 0);
                              kernel<<<launch.grid, launch.block, 0, at::cuda::getCurrentCUDAStream()>>>(
                                  shape, tensors.pointers(), pointers);
                              C10_CUDA_KERNEL_LAUNCH_CHECK();
                            });
  });
  return outputs;
}

std::tuple<at::Tensor, at::Tensor> backward(const at::Tensor& x, at::TensorList mixes,
                                            const std::optional<at::Tensor>& weight,
                                            const std::optional<at::Tensor>& bias, at::TensorList gradients_in,
                                            int64_t height, int64_t width) {
  check_token_shift_mix(x, mixes, weight, bias, height, width);
  const c10::cuda::CUDAGuard guard(x.device());
  const auto sums_count = static_cast<int64_t>(mixes.size()) + 2;
  const auto sums_options = x.options().dtype(at::toOpMathType(x.scalar_type()));
  at::Tensor gx = at::empty_like(x, at::MemoryFormat::Contiguous);
  if (x.numel() == 0) return {gx, at::zeros({sums_count, x.size(2)}, sums_options)};
  at::Tensor sums;
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, x.scalar_type(), "token_shift_mix_backward", [&] {
    using T = at::opmath_type<scalar_t>;
    constexpr int kWidest = 8 / sizeof(scalar_t);  // Narrower than in the forward pass: every channel has sums to keep.
    const MixTensors<T, scalar_t> tensors(x, mixes, weight, bias);
    std::vector<at::Tensor> read{tensors.x};
    MixGradients<scalar_t> pointers{};
    for (size_t j = 0; j < gradients_in.size(); ++j) {
      read.push_back(gradients_in[j].contiguous());
      pointers.gradients[j] = read.back().template const_data_ptr<scalar_t>();
    }
    MixShape shape = shape_of(x, height, width);
    with_constants<kWidest>(
        can_vectorize(x, read, tensors.parameters(), kWidest), mixes.size(), [&](auto vector, auto count) {
          const auto kernel = mix_backward_kernel<T, scalar_t, vector, count>;
          const Launch launch = divide(shape, vector, kernel, sizeof(T) * vector);
          const at::Tensor parts =
              at::empty({static_cast<int64_t>(launch.grid.x), sums_count, x.size(2)}, sums_options);
          const size_t shared = launch.block.x * launch.block.y * sizeof(T) * vector;
          kernel<<<launch.grid, launch.block, shared, at::cuda::getCurrentCUDAStream()>>>(
              shape, tensors.pointers(), pointers, gx.mutable_data_ptr<scalar_t>(), parts.mutable_data_ptr<T>());
          C10_CUDA_KERNEL_LAUNCH_CHECK();
          sums = parts.sum(0);
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

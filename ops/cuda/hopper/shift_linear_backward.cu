// token_shift_linear's gradients on CUDA, where its kernel serves.

#include <ATen/Functions.h>
#include <c10/cuda/CUDAGuard.h>
#include <torch/library.h>

#include <algorithm>
#include <array>

#include "ops/cuda/column_sums.cuh"
#include "ops/cuda/hopper/data_gradient_kernel.cuh"
#include "ops/cuda/hopper/launch.cuh"
#include "ops/cuda/hopper/shift_linear_backward.cuh"
#include "ops/registered_operator.h"
#include "ops/token_shift_check.h"
#include "ops/weight_packs.h"

namespace vrwkv::ops::cuda::hopper {
namespace {

using OptionalTensor = std::optional<at::Tensor>;

bool is_fused(const at::Tensor& x, at::TensorList mixes, at::TensorList weights) {
  return registered_operator<is_fused>("vrwkv::_token_shift_linear_is_fused").call(x, mixes, weights);
}

/// The parameters' pointers, and the tensors behind them.
struct ReadyParameters {
  ReadyParameters(at::TensorList mixes, at::TensorList weights, const OptionalTensor& weight,
                  const OptionalTensor& bias) {
    const auto keep = [this](const at::Tensor& tensor) {
      tensors.push_back(ready(tensor, at::kFloat));
      return pointer<float>(tensors.back());
    };
    for (size_t i = 0; i < kGradients; ++i) {
      pointers.mixes[i] = keep(mixes[i]);
      pointers.weights[i] = keep(weights[i]);
    }
    if (weight) pointers.weight = keep(*weight);
    if (bias) pointers.bias = keep(*bias);
  }

  ShiftLinearParameters pointers{};
  std::vector<at::Tensor> tensors;
};

/// Blocks that run at once of each of `kinds` kinds, one on a multiprocessor.
int64_t blocks_of(int kinds) {
  return std::max(1, at::cuda::getCurrentDeviceProperties()->multiProcessorCount / kinds);
}

/// Of `count` lines, in tiles for `blocks` blocks: as few rounds as can be, and then tiles as small as can be.
Lines divide_lines(int64_t length, int64_t count, int64_t inner, int64_t outer, int64_t step, int64_t blocks) {
  int64_t per_tile = 1, segments = 1;
  if (length > kRows) {
    segments = (length + kRows - 3) / (kRows - 2);
  } else {
    const auto ratio = [](int64_t a, int64_t b) { return (a + b - 1) / b; };
    const int64_t rounds = ratio(ratio(count, kRows / length), blocks);
    per_tile = ratio(count, rounds * blocks);
  }
  return {static_cast<int>(length), static_cast<int>(count),    static_cast<int>(inner),   static_cast<int>(outer),
          static_cast<int>(step),   static_cast<int>(per_tile), static_cast<int>(segments)};
}

/// Weights of layers as data_gradient_kernel fetches them.
std::vector<at::Tensor> pack(at::TensorList weights) {
  const at::Tensor& like = weights.front();
  if (!has_wgmma(like.device()) || !are_matrices(weights, kChannels, kChannels, like)) return {};
  const c10::cuda::CUDAGuard guard(like.device());
  const std::vector<at::Tensor> inputs = ready(weights, at::kFloat);
  std::vector<LinearWeights> layers(weights.size() / kGradients);
  for (size_t i = 0; i < inputs.size(); ++i) {
    layers[i / kGradients].weights[i % kGradients] = pointer<float>(inputs[i]);
  }
  return pack_layers(
      layers, 2 * kHalfBytes, like.options(), [](const LinearWeightsList& list, unsigned count, unsigned char* packed) {
        launch(pack_halves_kernel, {dim3(8 * kLineSlabs, 1, count), kChannels, 0, /*early=*/true}, list, packed);
      });
}

at::Tensor data_gradient(const at::Tensor& x, const ShiftLinearParameters& parameters, const at::Tensor& packed,
                         const at::Tensor& gradients, int64_t height, int64_t width) {
  at::Tensor gx = at::empty_like(x);
  const int64_t blocks = blocks_of(2), batch = x.size(0);
  launch(data_gradient_kernel,
         {.blocks = dim3(static_cast<unsigned>(2 * blocks)),
          .threads = (kLineGroups + 1) * kWarpgroup,
          .shared_bytes = kDataGradientShared},
         DataGradient{pointer<__nv_bfloat16>(gradients),
                      {parameters.mixes[0], parameters.mixes[1], parameters.mixes[2]},
                      parameters.weight,
                      packed.const_data_ptr<uint8_t>(),
                      {divide_lines(width, batch * height, 1, width, 1, blocks * kLineGroups),
                       divide_lines(height, batch * width, width, height * width, width, blocks * kLineGroups)},
                      output(gx)});
  return gx;
}

/// Those of the linear layers, and the others' as token_shift_mix gives them.
std::tuple<std::vector<at::Tensor>, at::Tensor> parameter_gradients(const at::Tensor& x,
                                                                    const ShiftLinearParameters& parameters,
                                                                    const at::Tensor& gradients, int64_t height,
                                                                    int64_t width) {
  const auto options = x.options().dtype(at::kFloat);
  const int64_t tokens = x.size(0) * x.size(1), tiles = (tokens + kSlab - 1) / kSlab;
  const int64_t at_once = blocks_of(kCorrelations);
  const int64_t span = (tiles + at_once - 1) / at_once * kSlab, count = (tokens + span - 1) / span;
  const at::Tensor parts = at::empty({count, kCorrelations, kChannels, kColumns}, options);
  launch(correlation_kernel,
         {.blocks = dim3(static_cast<unsigned>(count * kCorrelations)),
          .threads = (kSumGroups + 1) * kWarpgroup,
          .shared_bytes = kCorrelationShared},
         Correlation{
             {pointer<__nv_bfloat16>(x), nullptr, nullptr, tokens, static_cast<int>(height), static_cast<int>(width)},
             map_of_rows(gradients.flatten(0, 1), kSlab, kTileSlabs),
             map_of_rows(x.flatten(0, 1), kSlab, kTileSlabs),
             parts.mutable_data_ptr<float>(),
             static_cast<int>(span)});
  const at::Tensor sums = at::empty({kParameterBlocks, kParameterSums, kChannels}, options);
  ParameterGradients arguments{
      parameters, parts.const_data_ptr<float>(), static_cast<int>(count), {}, sums.mutable_data_ptr<float>()};
  std::vector<at::Tensor> gweights;
  for (float*& gweight : arguments.gweights) {
    gweights.push_back(at::empty({kChannels, kChannels}, options));
    gweight = gweights.back().mutable_data_ptr<float>();
  }
  launch_dependent(parameter_gradients_kernel, kParameterBlocks, kParameterThreads, arguments);
  return {gweights, column_sums(sums, 0)};
}

std::tuple<at::Tensor, std::vector<at::Tensor>, at::Tensor> backward(
    const at::Tensor& x_in, at::TensorList mixes, at::TensorList weights, const OptionalTensor& weight,
    const OptionalTensor& bias, const OptionalTensor& packed, const at::Tensor& gradients_in, int64_t height,
    int64_t width, std::array<bool, 2> needed) {
  check_token_shift_mix(x_in, mixes, weight, bias, height, width, std::nullopt);
  TORCH_CHECK(is_fused(x_in, mixes, weights),
              "_token_shift_linear_backward: what token_shift_linear's kernel serves expected, got x ", x_in.sizes(),
              " in ", x_in.scalar_type());
  TORCH_CHECK(gradients_in.dim() == 3 && gradients_in.size(0) == x_in.size(0) && gradients_in.size(1) == x_in.size(1) &&
                  gradients_in.size(2) == kGradients * kChannels && gradients_in.scalar_type() == x_in.scalar_type() &&
                  gradients_in.device() == x_in.device(),
              "_token_shift_linear_backward: gradients must be [B, T, ", kGradients, " C] beside x ", x_in.sizes(),
              ", got ", gradients_in.sizes());
  const c10::cuda::CUDAGuard guard(x_in.device());
  const at::Tensor x = ready(x_in, at::kBFloat16), gradients = ready(gradients_in, at::kBFloat16);
  const ReadyParameters parameters(mixes, weights, weight, bias);
  std::tuple<at::Tensor, std::vector<at::Tensor>, at::Tensor> result;
  auto& [gx, gweights, sums] = result;
  if (needed[0]) {
    gx = data_gradient(x, parameters.pointers, packed ? *packed : packed_weights(kShiftLinearGradientOrder, weights),
                       gradients, height, width);
  }
  if (needed[1]) {
    std::tie(gweights, sums) = parameter_gradients(x, parameters.pointers, gradients, height, width);
  }
  return result;
}

}  // namespace

TORCH_LIBRARY_IMPL(vrwkv, CUDA, m) {
  m.impl("_token_shift_linear_backward", backward);
  m.impl("_pack_token_shift_linear_gradient", pack);
}

}  // namespace vrwkv::ops::cuda::hopper

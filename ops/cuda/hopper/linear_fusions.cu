// token_shift_linear, linear_residual and, without gradients, channel_mix on CUDA: one kernel each where wgmma and the
// sizes allow it, see serves(); else the compositions. And linear_residual_channel_mix, two kernels without the sum
// between them.

#include <ATen/Functions.h>
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAGuard.h>
#include <torch/library.h>

#include <algorithm>
#include <initializer_list>
#include <limits>

#include "ops/cuda/bi_wkv_block.cuh"
#include "ops/cuda/hopper/channel_mix_kernel.cuh"
#include "ops/cuda/hopper/launch.cuh"
#include "ops/cuda/hopper/linear_residual_kernel.cuh"
#include "ops/cuda/hopper/pack.cuh"
#include "ops/cuda/hopper/shift_linear_kernel.cuh"
#include "ops/linear_composites.h"
#include "ops/residual_add_check.h"
#include "ops/token_shift_check.h"
#include "ops/weight_casts.h"
#include "ops/weight_packs.h"

namespace vrwkv::ops::cuda::hopper {
namespace {

using OptionalTensor = std::optional<at::Tensor>;

/// Whether the kernels take these tokens, on the device that they are on.
bool serves(const at::Tensor& tokens) {
  if (tokens.dim() != 3 || tokens.size(2) != kChannels || tokens.scalar_type() != at::kBFloat16) return false;
  if (tokens.numel() == 0 || tokens.size(0) * tokens.size(1) > std::numeric_limits<int32_t>::max()) return false;
  return has_wgmma(tokens.device());
}

bool serves_residual(const at::Tensor& x, const at::Tensor& like) {
  return x.defined() && x.scalar_type() == at::kFloat && x.sizes() == like.sizes() && x.device() == like.device();
}

/// Blocks in groups of `together`, which take `tile` tokens at once: one block for each multiprocessor, if there are
/// tokens enough.
unsigned resident_blocks(int64_t tokens, int tile, int together) {
  const int64_t most = at::cuda::getCurrentDeviceProperties()->multiProcessorCount / together;
  return static_cast<unsigned>(std::min((tokens + tile - 1) / tile, most) * together);
}

/// Whether there is a kernel for these weights of a channel mix.
bool serves_channel_mix(const at::Tensor& key, const at::Tensor& value, const at::Tensor& receptance,
                        const at::Tensor& like) {
  const int64_t hidden = key.dim() == 2 ? key.size(0) : 0;
  return hidden > 0 && hidden % kHiddenChunk == 0 && is_matrix(key, hidden, kChannels, like) &&
         is_matrix(value, kChannels, hidden, like) && is_matrix(receptance, kChannels, kChannels, like);
}

/// Key, value, receptance and, of `each` = 4, a linear layer's weight of every layer in the order of the kernel, by
/// another one that it may start beside.
std::vector<at::Tensor> pack_channel_mixes(at::TensorList weights, size_t each) {
  const at::Tensor& like = weights.front();
  if (!has_wgmma(like.device())) return {};
  const c10::cuda::CUDAGuard guard(like.device());
  const std::vector<at::Tensor> inputs = ready(weights, at::kFloat);
  const auto chunks = static_cast<int>(like.size(0) / kHiddenChunk);
  std::vector<Packing> packings;
  for (size_t i = 0; i + each <= inputs.size(); i += each) {
    if (!serves_channel_mix(inputs[i], inputs[i + 1], inputs[i + 2], like) || inputs[i].sizes() != like.sizes()) {
      return {};
    }
    packings.push_back(
        {pointer<float>(inputs[i]), pointer<float>(inputs[i + 1]), chunks, pointer<float>(inputs[i + 2]), nullptr});
    if (each < 4) continue;
    if (!is_matrix(inputs[i + 3], kChannels, kChannels, like)) return {};
    packings.back().linear = pointer<float>(inputs[i + 3]);
  }
  const int64_t units = 4 * static_cast<int64_t>(chunks) + (static_cast<int64_t>(each) - 2) * kUnits;
  static_assert(kPieces % kPackThreads == 0);
  return pack_layers(packings, units * kWeightUnit, like.options(),
                     [&](const PackingList& list, unsigned layers, unsigned char* packed) {
                       const dim3 grid(static_cast<unsigned>(units), kPieces / kPackThreads, layers);
                       launch(pack_kernel, {grid, kPackThreads, 0, /*early=*/true}, list, packed);
                     });
}

std::vector<at::Tensor> pack_channel_mix(at::TensorList weights) { return pack_channel_mixes(weights, 3); }
std::vector<at::Tensor> pack_linear_residual_channel_mix(at::TensorList weights) {
  return pack_channel_mixes(weights, 4);
}

/// Tokens with the norm of what is mixed.
struct Shifted {
  Shifted(const at::Tensor& x, const OptionalTensor& weight_in, const OptionalTensor& bias_in, int64_t height_in,
          int64_t width_in)
      : tokens(ready(x, at::kBFloat16)),
        weight(ready(weight_in, at::kFloat)),
        bias(ready(bias_in, at::kFloat)),
        height(height_in),
        width(width_in) {}

  ShiftedTokens pointers() const {
    return {pointer<__nv_bfloat16>(tokens),  pointer<float>(weight),   pointer<float>(bias),
            tokens.size(0) * tokens.size(1), static_cast<int>(height), static_cast<int>(width)};
  }

  at::Tensor tokens, weight, bias;
  int64_t height, width;
};

/// A residual sum's tensors; y undefined where nobody wants it.
struct Sum {
  Sum(const at::Tensor& x_in, const at::Tensor& like, int64_t feed_in, double eps_in, bool wanted = true)
      : x(ready(x_in, at::kFloat)),
        y(wanted ? at::empty_like(x) : at::Tensor()),
        feed(feed_in == 0 ? at::empty({0}, like.options()) : at::empty(like.sizes(), like.options())),
        kind(static_cast<Feed>(feed_in)),
        eps(eps_in) {}

  Residual pointers() const {
    return {pointer<float>(x),
            y.defined() ? y.mutable_data_ptr<float>() : nullptr,
            kind == Feed::none ? nullptr : output(feed),
            kind == Feed::standardized,
            static_cast<float>(eps),
            x.size(0) * x.size(1)};
  }

  at::Tensor x, y, feed;
  Feed kind;
  double eps;
};

bool shift_linear_is_fused(const at::Tensor& x, at::TensorList mixes, at::TensorList weights) {
  return serves(x) && mixes.size() == kShiftLinears && weights.size() == kShiftLinears &&
         are_matrices(weights, kChannels, kChannels, x);
}

std::vector<at::Tensor> token_shift_linear(const at::Tensor& x, at::TensorList mixes, at::TensorList weights,
                                           const OptionalTensor& weight, const OptionalTensor& bias, int64_t height,
                                           int64_t width) {
  if (!shift_linear_is_fused(x, mixes, weights)) {
    return token_shift_linear_composite(x, mixes, weights, weight, bias, height, width);
  }
  check_token_shift_mix(x, mixes, weight, bias, height, width, std::nullopt);
  const c10::cuda::CUDAGuard guard(x.device());
  const Shifted shifted(x, weight, bias, height, width);
  std::vector<at::Tensor> mixes_ready, casts, outputs;
  ShiftLinear arguments{shifted.pointers(), {}, {}, {}};
  const WeightCastScope scope;
  cast_weights(weights, at::kBFloat16);
  for (size_t j = 0; j < kShiftLinears; ++j) {
    mixes_ready.push_back(ready(mixes[j], at::kFloat));
    arguments.mixes[j] = pointer<float>(mixes_ready.back());
    casts.push_back(ready(cast_weight(weights[j], at::kBFloat16), at::kBFloat16));
    arguments.weights[j] = map_of_weight(casts.back(), kHalfSpans);
    outputs.push_back(at::empty_like(shifted.tokens));
    arguments.out[j] = output(outputs.back());
  }
  launch(shift_linear_kernel,
         {resident_blocks(arguments.from.count, kRows, kShiftKinds), kShiftThreads, kShiftLinearShared,
          /*early=*/true},
         arguments);
  return outputs;
}

/// What a channel mix is made with, beside what it reads and adds.
struct MixParameters {
  MixParameters(const at::Tensor& mix_k, const at::Tensor& mix_r, const at::Tensor& packed_in, const at::Tensor& key)
      : k(ready(mix_k, at::kFloat)),
        r(ready(mix_r, at::kFloat)),
        packed(packed_in),
        chunks(static_cast<int>(key.size(0) / kHiddenChunk)) {}

  at::Tensor k, r, packed;
  int chunks;
};

/// `values` undefined, or what the linear layer among the packed weights reads.
void launch_channel_mix(const Shifted& shifted, const MixParameters& with, const Sum& sum, const at::Tensor& values) {
  const ChannelMix arguments{
      shifted.pointers(), pointer<float>(with.k),         pointer<float>(with.r), with.packed.const_data_ptr<uint8_t>(),
      with.chunks,        pointer<__nv_bfloat16>(values), sum.pointers()};
  launch(values.defined() ? channel_mix_kernel<true> : channel_mix_kernel<false>,
         {resident_blocks(arguments.from.count, kClusterBlocks * kMixGroups * kRows, kClusterBlocks), kMixThreads,
          kMixShared, /*early=*/true},
         arguments);
}

std::tuple<at::Tensor, at::Tensor> channel_mix(const at::Tensor& x, const at::Tensor& feed, const at::Tensor& mix_k,
                                               const at::Tensor& mix_r, const at::Tensor& key,
                                               const at::Tensor& receptance, const at::Tensor& value,
                                               const OptionalTensor& norm_weight, const OptionalTensor& norm_bias,
                                               int64_t height, int64_t width, int64_t next, double eps) {
  const bool fused = serves(feed) && serves_residual(x, feed) && serves_channel_mix(key, value, receptance, feed) &&
                     next >= 0 && next <= 2;
  if (!fused) {
    return channel_mix_composite(x, feed, mix_k, mix_r, key, receptance, value, norm_weight, norm_bias, height, width,
                                 next, eps);
  }
  check_token_shift_mix(feed, {mix_k, mix_r}, norm_weight, norm_bias, height, width, std::nullopt);
  const c10::cuda::CUDAGuard guard(feed.device());
  const Shifted shifted(feed, norm_weight, norm_bias, height, width);
  const Sum sum(x, feed, next, eps);
  const MixParameters with(mix_k, mix_r, packed_weights(kChannelMixOrder, {key, value, receptance}), key);
  launch_channel_mix(shifted, with, sum, {});
  return {sum.y, sum.feed};
}

bool linear_residual_is_fused(const at::Tensor& x, const at::Tensor& value, const at::Tensor& weight) {
  return serves(value) && serves_residual(x, value) && is_matrix(weight, kChannels, kChannels, value);
}

/// `mask` and `rstd` may be missing.
void launch_linear_residual(const at::Tensor& value, const at::Tensor& weight, const at::Tensor& mask, const Sum& sum,
                            const at::Tensor& rstd) {
  const at::Tensor cast = ready(cast_weight(weight, at::kBFloat16), at::kBFloat16);
  LinearResidual arguments{map_of_rows(value.view({-1, kChannels}), kRows, kTileSlabs), map_of_weight(cast),
                           pointer<float>(mask), static_cast<int>(value.size(1)), sum.pointers()};
  if (rstd.defined() && rstd.numel() > 0) arguments.residual.rstd = rstd.mutable_data_ptr<float>();
  const bool behind_meeting = value.size(1) > kTokensAlone<float>;  // Bi-WKV's blocks meet.
  launch(sum.y.defined() ? linear_residual_kernel<true> : linear_residual_kernel<false>,
         {resident_blocks(arguments.residual.count, kRows, /*together=*/1), kSumGroups * kWarpgroup,
          kLinearResidualShared, /*early=*/!behind_meeting},
         arguments);
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> linear_residual_forward(const at::Tensor& x, const at::Tensor& value,
                                                                       const at::Tensor& weight,
                                                                       const OptionalTensor& mask, int64_t feed,
                                                                       double eps) {
  TORCH_CHECK(linear_residual_is_fused(x, value, weight), "_linear_residual_forward: there is no kernel for x ",
              x.scalar_type(), x.sizes(), ", value ", value.scalar_type(), value.sizes(), ", weight ", weight.sizes());
  check_residual_add(x, {.value = value, .mask = part(mask)}, feed);
  const c10::cuda::CUDAGuard guard(x.device());
  const Sum sum(x, value, feed, eps);
  const at::Tensor rstd = at::empty({sum.kind == Feed::standardized ? x.size(0) * x.size(1) : 0}, sum.x.options());
  launch_linear_residual(ready(value, at::kBFloat16), weight, ready(mask, at::kFloat), sum, rstd);
  return {sum.y, sum.feed, rstd};
}

std::tuple<at::Tensor, at::Tensor> linear_residual(const at::Tensor& x, const at::Tensor& value,
                                                   const at::Tensor& weight, const OptionalTensor& mask, int64_t feed,
                                                   double eps) {
  if (!linear_residual_is_fused(x, value, weight)) return linear_residual_composite(x, value, weight, mask, feed, eps);
  const auto [y, fed, rstd] = linear_residual_forward(x, value, weight, mask, feed, eps);
  return {y, fed};
}

std::tuple<at::Tensor, at::Tensor> linear_residual_channel_mix(const at::Tensor& x, const at::Tensor& branch,
                                                               const at::Tensor& weight, const at::Tensor& mix_k,
                                                               const at::Tensor& mix_r, const at::Tensor& key,
                                                               const at::Tensor& receptance, const at::Tensor& value,
                                                               const OptionalTensor& norm_weight,
                                                               const OptionalTensor& norm_bias, int64_t height,
                                                               int64_t width, int64_t feed, int64_t next, double eps) {
  const bool fused = linear_residual_is_fused(x, branch, weight) &&
                     serves_channel_mix(key, value, receptance, branch) && feed > 0 && feed <= 2 && next >= 0 &&
                     next <= 2;
  if (!fused) {
    return linear_residual_channel_mix_composite(x, branch, weight, mix_k, mix_r, key, receptance, value, norm_weight,
                                                 norm_bias, height, width, feed, next, eps);
  }
  check_residual_add(x, {.value = branch}, feed);
  check_token_shift_mix(branch, {mix_k, mix_r}, norm_weight, norm_bias, height, width, std::nullopt);
  const c10::cuda::CUDAGuard guard(x.device());
  const at::Tensor values = ready(branch, at::kBFloat16);
  const Sum between(x, values, feed, eps, /*wanted=*/false);
  launch_linear_residual(values, weight, {}, between, {});
  const Shifted shifted(between.feed, norm_weight, norm_bias, height, width);
  const Sum sum(between.x, values, next, eps);
  const MixParameters with(mix_k, mix_r,
                           packed_weights(kLinearResidualChannelMixOrder, {key, value, receptance, weight}), key);
  launch_channel_mix(shifted, with, sum, values);
  return {sum.y, sum.feed};
}

}  // namespace

TORCH_LIBRARY_IMPL(vrwkv, CUDA, m) {
  m.impl("token_shift_linear", token_shift_linear);
  m.impl("_token_shift_linear_is_fused", shift_linear_is_fused);
  m.impl("channel_mix", channel_mix);
  m.impl("_pack_channel_mix", pack_channel_mix);
  m.impl("_pack_linear_residual_channel_mix", pack_linear_residual_channel_mix);
  m.impl("linear_residual", linear_residual);
  m.impl("linear_residual_channel_mix", linear_residual_channel_mix);
  m.impl("_linear_residual_forward", linear_residual_forward);
  m.impl("_linear_residual_is_fused", linear_residual_is_fused);
}

}  // namespace vrwkv::ops::cuda::hopper

// squared_relu_mlp on CUDA, where wgmma and the sizes allow it: the hidden channels and their gradient by kernels of
// our own, the other products by products().

#include <ATen/Functions.h>
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAGuard.h>
#include <torch/library.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "ops/cuda/hopper/launch.cuh"
#include "ops/cuda/hopper/weight_gradients.h"
#include "ops/cuda/hopper/wide_hidden_kernel.cuh"
#include "ops/products.h"
#include "ops/squared_relu_mlp_kernels.h"
#include "ops/weight_casts.h"
#include "ops/weight_packs.h"

namespace vrwkv::ops::cuda::hopper {
namespace {

constexpr int64_t kWideChannels = 256;  ///< From which on there is wide_hidden_kernel.

/// Whether there are kernels for such sizes, on such a device.
bool serves(int64_t channels, int64_t hidden, at::Device device) {
  static_assert(HiddenBlock::kChunk == kSlab);
  return (channels == HiddenBlock::kChannels || channels >= kWideChannels) && channels % kSlab == 0 && hidden > 0 &&
         hidden % kSlab == 0 && has_wgmma(device);
}

bool serves(const at::Tensor& x, const at::Tensor& key, const at::Tensor& value) {
  if (x.dim() == 0 || x.scalar_type() != at::kBFloat16 || key.dim() != 2) return false;
  const int64_t channels = x.size(-1), hidden = key.size(0);
  return serves(channels, hidden, x.device()) && is_matrix(key, hidden, channels, x) &&
         is_matrix(value, channels, hidden, x);
}

bool is_fused(const at::Tensor& x, const at::Tensor& key, const at::Tensor& value) {
  return serves(x, key, value) && key.scalar_type() == at::kFloat && value.scalar_type() == at::kFloat;
}

unsigned processors() { return static_cast<unsigned>(at::cuda::getCurrentDeviceProperties()->multiProcessorCount); }

/// Weights of layers as the narrow kernels fetch them, keys [H, C], or values [C, H] transposed; the wide ones read
/// casts.
template <bool transposed>
std::vector<at::Tensor> pack(at::TensorList weights) {
  const at::Tensor& like = weights.front();
  if (like.dim() != 2) return {};
  const int64_t hidden = like.size(transposed ? 1 : 0), channels = like.size(transposed ? 0 : 1);
  if (channels != HiddenBlock::kChannels || !serves(channels, hidden, like.device()) ||
      !are_matrices(weights, like.size(0), like.size(1), like))
    return {};
  const c10::cuda::CUDAGuard guard(like.device());
  const std::vector<at::Tensor> inputs = ready(weights, at::kFloat);
  std::vector<const float*> layers;
  for (const at::Tensor& input : inputs) layers.push_back(pointer<float>(input));
  const int64_t stride = like.size(1), chunks = hidden / HiddenBlock::kChunk;
  return pack_layers(
      layers, chunks * HiddenBlock::kUnitBytes, like.options(),
      [&](const MatrixList& list, unsigned count, unsigned char* packed) {
        const dim3 blocks(static_cast<unsigned>(chunks), HiddenBlock::kUnitBytes / 16 / kHiddenPackThreads, count);
        launch(pack_hidden_kernel<transposed>, {blocks, kHiddenPackThreads, 0, /*early=*/true}, list, stride, packed);
      });
}

/// The hidden channels, or where `hidden` is defined their gradient, for rows [tokens, C] and a packed weight.
template <bool backward>
void run_narrow(const at::Tensor& rows, const at::Tensor& packed, const at::Tensor& hidden, const at::Tensor& out) {
  using Block = HiddenBlock;
  const int64_t tokens = rows.size(0), chunks = out.size(1) / Block::kChunk;
  // As equal shares of all chunks of all tiles as there are multiprocessors: whole tiles would leave some of them idle.
  const int64_t items = (tokens + Block::kTokens - 1) / Block::kTokens * chunks;
  const int64_t of_block = (items + processors() - 1) / processors(), blocks = (items + of_block - 1) / of_block;
  const HiddenProduct product{pointer<__nv_bfloat16>(rows),
                              packed.const_data_ptr<uint8_t>(),
                              pointer<__nv_bfloat16>(hidden),
                              output(out),
                              tokens,
                              static_cast<int>(chunks),
                              items,
                              of_block};
  launch(hidden_kernel<backward>,
         {static_cast<unsigned>(blocks), Block::kGroups * kWarpgroup, Block::kShared, /*early=*/true}, product);
}

/// The same for more channels and a weight in bfloat16, the key [H, C] or in the backward pass the value [C, H].
template <bool backward>
void run_wide(const at::Tensor& rows, const at::Tensor& weight, const at::Tensor& hidden, const at::Tensor& out) {
  using Block = WideBlock;
  constexpr int64_t kMax = std::numeric_limits<int>::max();
  const int64_t tokens = rows.size(0), slabs = rows.size(1) / kSlab, width = out.size(1);
  TORCH_CHECK(tokens <= kMax && width <= kMax, "squared_relu_mlp: x is too large for one launch, ", rows.sizes());
  const int64_t columns = (width + Block::kHidden - 1) / Block::kHidden;
  const int64_t tiles = (tokens + Block::kTokens - 1) / Block::kTokens * columns;
  const at::Tensor lying = ready(weight, at::kBFloat16);
  const WideProduct product{
      map_of_rows(rows, Block::kTokens, 1),
      backward ? map_of_rows(lying, kSlab, Block::kQuarters) : map_of_rows(lying, Block::kHidden, 1),
      pointer<__nv_bfloat16>(hidden),
      output(out),
      tokens,
      static_cast<int>(slabs),
      static_cast<int>(width),
      static_cast<int>(columns),
      tiles};
  const auto blocks = static_cast<unsigned>(std::min<int64_t>(tiles, processors()));
  launch(wide_hidden_kernel<backward>, {blocks, Block::kThreads, Block::kShared, /*early=*/true}, product);
}

/// The same for any number of channels: with the key, or in the backward pass the value, which may be `packed` already.
template <bool backward>
at::Tensor hidden_product(const at::Tensor& rows, const at::Tensor& weight, const std::optional<at::Tensor>& packed,
                          int64_t width, const at::Tensor& hidden) {
  at::Tensor out = at::empty({rows.size(0), width}, rows.options());
  if (out.numel() == 0) return out;
  if (rows.size(1) == HiddenBlock::kChannels) {
    const PackOrder& order = backward ? kHiddenGradientOrder : kHiddenOrder;
    run_narrow<backward>(rows, packed ? *packed : packed_weights(order, weight), hidden, out);
  } else {
    run_wide<backward>(rows, cast_weight(weight, at::kBFloat16), hidden, out);
  }
  return out;
}

/// [..., C] as [tokens, C].
at::Tensor as_rows(const at::Tensor& tensor) {
  const int64_t width = tensor.size(-1);
  return ready(tensor, at::kBFloat16).view({tensor.numel() / width, width});
}

/// `rows` [tokens, width] in the shape of `like` but for the last dimension.
at::Tensor as_shape(const at::Tensor& rows, const at::Tensor& like) {
  std::vector<int64_t> sizes = like.sizes().vec();
  sizes.back() = rows.size(1);
  return rows.view(sizes);
}

std::tuple<at::Tensor, at::Tensor> forward(const at::Tensor& x, const at::Tensor& key, const at::Tensor& value) {
  TORCH_CHECK(is_fused(x, key, value), "_squared_relu_mlp_forward: there is no kernel for x ", x.scalar_type(),
              x.sizes(), ", key ", key.scalar_type(), key.sizes(), ", value ", value.scalar_type(), value.sizes());
  const c10::cuda::CUDAGuard guard(x.device());
  const at::Tensor hidden = hidden_product<false>(as_rows(x), key, std::nullopt, key.size(0), {});
  return {as_shape(product(hidden, cast_weight(value, at::kBFloat16)), x), as_shape(hidden, x)};
}

/// Gradients of the weights are the products' float32 sums: rounded to bfloat16 and widened again, as autocast's linear
/// layers have them, they would lose digits and take another kernel.
std::tuple<at::Tensor, at::Tensor, at::Tensor> backward(const at::Tensor& gy, const at::Tensor& x,
                                                        const at::Tensor& hidden, const at::Tensor& key,
                                                        const at::Tensor& value,
                                                        const std::optional<at::Tensor>& packed,
                                                        std::array<bool, 3> needed) {
  TORCH_CHECK(
      serves(x, key, value) && gy.sizes() == x.sizes() && hidden.numel() == x.numel() / x.size(-1) * key.size(0),
      "_squared_relu_mlp_backward: there is no kernel for x ", x.scalar_type(), x.sizes(), ", gy ", gy.sizes(),
      ", hidden ", hidden.sizes(), ", key ", key.sizes(), ", value ", value.sizes());
  const c10::cuda::CUDAGuard guard(x.device());
  const at::Tensor rows = as_rows(gy), h = as_rows(hidden);
  at::Tensor gx, gkey, gvalue;
  std::vector<at::Tensor> gradients, inputs;  // Of the layers whose weights have gradients.
  if (needed[0] || needed[1]) {
    const at::Tensor gk = hidden_product<true>(rows, value, packed, key.size(0), h);
    if (needed[0]) gx = as_shape(product(gk, key.to(at::kBFloat16), /*transposed=*/true), x);
    if (needed[1]) {
      gradients.push_back(gk);
      inputs.push_back(as_rows(x));
    }
  }
  if (needed[2]) {
    gradients.push_back(rows);
    inputs.push_back(h);
  }
  const std::vector<at::Tensor> of_weights = weight_gradients(gradients, inputs);
  if (needed[1]) gkey = of_weights.front();
  if (needed[2]) gvalue = of_weights.back();
  return {gx, gkey, gvalue};
}

at::Tensor squared_relu_mlp(const at::Tensor& x, const at::Tensor& key, const at::Tensor& value) {
  return is_fused(x, key, value) ? std::get<0>(forward(x, key, value)) : squared_relu_mlp_composite(x, key, value);
}

}  // namespace

TORCH_LIBRARY_IMPL(vrwkv, CUDA, m) {
  m.impl("squared_relu_mlp", squared_relu_mlp);
  m.impl("_squared_relu_mlp_is_fused", is_fused);
  m.impl("_squared_relu_mlp_forward", forward);
  m.impl("_squared_relu_mlp_backward", backward);
  m.impl("_pack_hidden", pack<false>);
  m.impl("_pack_hidden_gradient", pack<true>);
}

}  // namespace vrwkv::ops::cuda::hopper

// patch_embed on CUDA: one kernel where wgmma and the sizes allow it, see is_fused(); else the composition.

#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAGuard.h>
#include <torch/library.h>

#include <algorithm>
#include <limits>
#include <tuple>

#include "ops/cuda/hopper/launch.cuh"
#include "ops/cuda/hopper/patch_embed_kernel.cuh"
#include "ops/patch_embed_kernels.h"
#include "ops/weight_packs.h"

namespace vrwkv::ops::cuda::hopper {
namespace {

bool is_fused(const at::Tensor& images, const at::Tensor& weight, const at::Tensor& bias, const at::Tensor& places,
              at::ScalarType dtype) {
  if (dtype != at::kBFloat16 || images.dim() != 4 || weight.dim() != 4 || !has_wgmma(images.device())) return false;
  const auto is_ready = [&](const at::Tensor& tensor) {
    return tensor.scalar_type() == at::kFloat && tensor.device() == images.device() && tensor.is_contiguous() &&
           is_aligned(tensor, kParameterBytes);
  };
  const int64_t tokens = images.size(2) / kPatch * (images.size(3) / kPatch);
  return is_ready(images) && is_ready(weight) && is_ready(bias) && is_ready(places) && images.numel() > 0 &&
         images.numel() <= std::numeric_limits<int32_t>::max() && images.size(2) % kPatch == 0 &&
         images.size(3) % kPatch == 0 &&
         weight.sizes() == at::IntArrayRef({kEmbedChannels, images.size(1), kPatch, kPatch}) &&
         bias.sizes() == at::IntArrayRef({kEmbedChannels}) &&
         places.sizes() == at::IntArrayRef({1, tokens, kEmbedChannels});
}

/// Weights as the kernel fetches them.
std::vector<at::Tensor> pack(at::TensorList weights) {
  constexpr int kPieces = kEmbedUnit / 16;
  static_assert(kPieces % kEmbedPackThreads == 0);
  std::vector<at::Tensor> result;
  for (const at::Tensor& weight : weights) {
    const c10::cuda::CUDAGuard guard(weight.device());
    const int64_t units = weight.size(1) * kSlabsOfChannel;
    result.push_back(at::empty({units * kEmbedUnit}, weight.options().dtype(at::kByte).requires_grad(false)));
    launch(pack_embedding_kernel,
           {dim3(static_cast<unsigned>(units), kPieces / kEmbedPackThreads), kEmbedPackThreads, 0, /*early=*/true},
           pointer<float>(weight), result.back().mutable_data_ptr<uint8_t>());
  }
  return result;
}

std::tuple<at::Tensor, at::Tensor> forward(const at::Tensor& images, const at::Tensor& weight, const at::Tensor& bias,
                                           const at::Tensor& places, bool keep_rows) {
  TORCH_CHECK(is_fused(images, weight, bias, places, at::kBFloat16), "patch_embed: there is no kernel for images ",
              images.sizes(), ", weight ", weight.sizes(), ", bias ", bias.sizes(), " and places ", places.sizes());
  const c10::cuda::CUDAGuard guard(images.device());
  const int64_t batch = images.size(0), tokens = places.size(1), units = images.size(1) * kSlabsOfChannel;
  const auto options = images.options();
  const at::Tensor packed = packed_weights(kPatchEmbedOrder, weight);
  at::Tensor out = at::empty({batch, tokens, kEmbedChannels}, options.dtype(at::kBFloat16));
  at::Tensor rows = at::empty({keep_rows ? batch : 0, tokens, units * kSlab}, options.dtype(at::kBFloat16));
  const PatchEmbed arguments{pointer<float>(images),
                             static_cast<int>(images.size(1)),
                             static_cast<int>(images.size(2) / kPatch),
                             static_cast<int>(images.size(3) / kPatch),
                             batch * tokens,
                             packed.const_data_ptr<uint8_t>(),
                             pointer<float>(bias),
                             pointer<float>(places),
                             output(out),
                             keep_rows ? output(rows) : nullptr};
  const int64_t tiles = (arguments.count + kEmbedTile - 1) / kEmbedTile;
  const auto blocks = std::min<int64_t>(tiles, at::cuda::getCurrentDeviceProperties()->multiProcessorCount);
  launch(patch_embed_kernel, {static_cast<unsigned>(blocks), kEmbedThreads, kEmbedShared, /*early=*/true}, arguments);
  return {out, rows};
}

at::Tensor patch_embed(const at::Tensor& images, const at::Tensor& weight, const at::Tensor& bias,
                       const at::Tensor& places, at::ScalarType dtype) {
  if (!is_fused(images, weight, bias, places, dtype)) {
    return patch_embed_composite(images, weight, bias, places, dtype);
  }
  return std::get<0>(forward(images, weight, bias, places, /*keep_rows=*/false));
}

}  // namespace

TORCH_LIBRARY_IMPL(vrwkv, CUDA, m) {
  m.impl("patch_embed", patch_embed);
  m.impl("_patch_embed_is_fused", is_fused);
  m.impl("_patch_embed_forward", forward);
  m.impl("_pack_patch_embed", pack);
}

}  // namespace vrwkv::ops::cuda::hopper

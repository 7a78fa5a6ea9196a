#pragma once

#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAGuard.h>

#include <algorithm>
#include <vector>

#include "ops/cuda/hopper/launch.cuh"

// Packing kernels take the weights of many layers at once, blockIdx.z being the layer.

namespace vrwkv::ops::cuda::hopper {

/// What is packed of each layer; an argument of a kernel, which may have 4,096 bytes on every driver.
template <typename Layer>
struct PackList {
  static constexpr size_t kMost = 4000 / sizeof(Layer);
  Layer layers[kMost];
};

/// Packs each of `layers` into `bytes` bytes by launch(list, layers of it, where their first one's bytes go).
template <typename Layer, typename F>
std::vector<at::Tensor> pack_layers(const std::vector<Layer>& layers, int64_t bytes, const at::TensorOptions& options,
                                    const F& launch) {
  const at::Tensor packed =
      at::empty({static_cast<int64_t>(layers.size()), bytes}, options.dtype(at::kByte).requires_grad(false));
  for (size_t begin = 0; begin < layers.size(); begin += PackList<Layer>::kMost) {
    const size_t count = std::min(layers.size() - begin, PackList<Layer>::kMost);
    PackList<Layer> list;
    std::copy_n(layers.begin() + static_cast<std::ptrdiff_t>(begin), count, list.layers);
    launch(list, static_cast<unsigned>(count),
           packed.mutable_data_ptr<uint8_t>() + static_cast<int64_t>(begin) * bytes);
  }
  return packed.unbind();
}

}  // namespace vrwkv::ops::cuda::hopper

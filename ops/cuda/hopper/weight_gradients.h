#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace vrwkv::ops::cuda::hopper {

/// The gradients of the weights of linear layers over the same tokens, sums over these in float32 which are not
/// rounded. One or two in bfloat16 are one kernel, if they are of one size or the transpose of it, to which its tiles
/// are suited; otherwise each is a product by cuBLAS. Both have the bits that each would have alone, the same in every
/// run.
///
/// @param gys  Gradients of the layers' results, [M, N_i] each.
/// @param xs   The layers' inputs, [M, K_i] each, in the dtype of gys.
/// @return     gys[i]^T xs[i], [N_i, K_i] each.
std::vector<at::Tensor> weight_gradients(at::TensorList gys, at::TensorList xs);

}  // namespace vrwkv::ops::cuda::hopper

#pragma once

#include <torch/types.h>

#include <string>

#include "deploy/onnx_builder.h"

namespace vrwkv::deploy {

/// Bi-WKV in standard operators, without loops: ops::bi_wkv() for w and u [C] and the values k and v [B, T, C], where
/// T = `tokens`. The sums over the tokens before and after each one come from ceil(log2 T) rounds of doubling, in which
/// every token adds what the one 2^n places before it has gathered, faded by e^{-2^n w} (Hillis and Steele, 1986), on
/// numbers with a common exponent, so that nothing overflows.
std::string onnx_bi_wkv(OnnxBuilder& onnx, const torch::Tensor& w, const torch::Tensor& u, const std::string& k,
                        const std::string& v, int64_t tokens);

/// The same for ops::bi_wkv_published(), in float64 as there.
std::string onnx_bi_wkv_published(OnnxBuilder& onnx, const torch::Tensor& w, const torch::Tensor& u,
                                  const std::string& k, const std::string& v, int64_t tokens);

}  // namespace vrwkv::deploy

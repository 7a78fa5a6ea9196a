#pragma once

#include <ATen/core/Tensor.h>

#include "vrwkv/layers/spatial_mix.h"
#include "vrwkv/options.h"

namespace vrwkv::tools {

/// The row of Bi-WKV's effective attention that belongs to one token: [B, T, C] weights a_i with
/// y_token = sum_i a_i v_i for each channel, in k's dtype. They sum to 1 over the tokens; with the paper's formula none
/// is negative. y is linear in v, so they are the derivatives of y_token, which the operator itself gives: for
/// either formula, on any device. Throws c10::Error for a token that is not there.
at::Tensor bi_wkv_weights(const BiWkvInputs& inputs, int64_t token, WkvFormula formula);

}  // namespace vrwkv::tools

#pragma once

#include <torch/types.h>

#include "config/run_config.h"

namespace vrwkv::train {

/// Mean loss of a batch, 0-d, float32 (float64 for float64 logits). `logits`: [B, classes]. `targets`: labels int64
/// [B], or shares of the classes [B, classes], floating point. Both are smoothed in the same way (Szegedy et al., arXiv
/// 1512.00567): t = (1 - label_smoothing) * target + label_smoothing / classes.
///   cross_entropy: -sum_c t_c log softmax(logits)_c
///   bce: binary cross-entropy of sigmoid(logits)_c and t_c, mean or sum over c (Wightman et al., arXiv 2110.00476);
///   with a threshold t_c is 1 above it, else 0
/// Throws c10::Error for targets of another shape or dtype.
torch::Tensor classification_loss(const torch::Tensor& logits, const torch::Tensor& targets,
                                  const config::LossOptions& options, double label_smoothing);

}  // namespace vrwkv::train

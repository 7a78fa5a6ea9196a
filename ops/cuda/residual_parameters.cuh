#pragma once

#include <cstdint>

// What the kernels of a residual sum's gradient share.

namespace vrwkv::ops::cuda {

/// Of the standardized value `hat`, the gradient from that of its result, g: of the row's g and g hat the means are
/// known.
__device__ __forceinline__ float standardized_gradient(float g, float hat, float rstd, float mean, float mean_product) {
  return rstd * (g - mean - hat * mean_product);
}

/// Parameters of a branch's norm and scale, and their gradients, [C] each; parts that are not there are null.
struct BranchParameters {
  const float *norm_weight, *norm_bias, *scale;
  float *gnorm_weight, *gnorm_bias, *gscale;

  /// The gradients of a channel from the sums over the tokens of g z and of g: of the branch's gradient g, and z before
  /// the norm's weight and the scale.
  __device__ __forceinline__ void write(int64_t channel, float gz, float g) const {
    const float factor = scale != nullptr ? scale[channel] : 1.0F;
    if (norm_weight == nullptr) {
      gscale[channel] = gz;
      return;
    }
    gnorm_weight[channel] = factor * gz;
    gnorm_bias[channel] = factor * g;
    if (gscale != nullptr) gscale[channel] = norm_weight[channel] * gz + norm_bias[channel] * g;
  }
};

}  // namespace vrwkv::ops::cuda

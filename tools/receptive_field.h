#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "eval/precision.h"
#include "vrwkv/vrwkv.h"

namespace vrwkv::tools {

/// The effective receptive field (Luo et al., arXiv 1701.04128) of the central token of the first map that `backbone`
/// returns: float64 [H, W] on the CPU, for each pixel the root of the mean over `images`, floating point [B, 3, H, W],
/// of the sum over output channels c and colours of (d f_c / d pixel)^2.
///
/// The sum over c takes a backward pass for each channel. With fewer `probes` than channels it is estimated without
/// bias: each pass sends back random signs in all channels, drawn with `seed`, and the squares are averaged over
/// the passes. (The plain sum of the channels, which some publications differentiate, says little of a normalised map:
/// that of a layer norm with equal weights is constant.)
at::Tensor receptive_field(Vrwkv& backbone, const at::Tensor& images, int64_t probes, int64_t seed,
                           const eval::Precision& precision);

}  // namespace vrwkv::tools

#pragma once

#include <cmath>
#include <cstdint>

namespace vrwkv::data::augment {

/// Boxes in each direction of gaussian_blur().
inline constexpr int kBoxPasses = 3;

/// A box of width 2 * radius + 1: whole pixels to either side weigh `whole`, the two beyond them `edge`, in units of
/// 2^-24. Pillow computes in these units and in float32; the last digit of a level depends on it.
struct BoxWeights {
  int64_t reach = 0;
  std::uint32_t whole = 0;
  std::uint32_t edge = 0;
};

/// The box whose kBoxPasses-fold convolution has the variance of the Gaussian (Gwosdek et al. 2011, equations 10 to
/// 14); radius > 0.
inline BoxWeights box_of(double radius) {
  const auto narrow = static_cast<float>(radius);
  const float variance = narrow * narrow / static_cast<float>(kBoxPasses);
  const auto length = static_cast<float>(std::sqrt(12.0 * static_cast<double>(variance) + 1.0));
  const auto reach = static_cast<float>(std::floor((static_cast<double>(length) - 1.0) / 2.0));
  float fraction = (2 * reach + 1) * (reach * (reach + 1) - 3 * variance);
  fraction /= 6 * (variance - (reach + 1) * (reach + 1));
  const float box = reach + fraction;
  BoxWeights weights;
  weights.reach = static_cast<int64_t>(box);
  weights.whole = static_cast<std::uint32_t>(static_cast<float>(1U << 24U) / (box * 2 + 1));
  weights.edge = ((1U << 24U) - static_cast<std::uint32_t>(weights.reach * 2 + 1) * weights.whole) / 2;
  return weights;
}

}  // namespace vrwkv::data::augment

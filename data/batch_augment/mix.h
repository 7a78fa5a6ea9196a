#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "data/options.h"
#include "data/random.h"
#include "data/transforms.h"

namespace vrwkv::data {

/// What an image of a batch becomes: `blend` of itself and the rest of its partner, and the partner alone inside of
/// `box`.
struct MixedRow {
  int64_t partner = 0;  ///< Its place in the batch.
  double blend = 1.0;   ///< Weight of the image's own pixels outside of `box`.
  Box box;              ///< Empty for mixup.
  double label = 1.0;   ///< Weight of the image's own label: `blend`, or CutMix's share of the pixels outside of `box`.
};

/// Draws what happens to a batch of `size` images of height x width. The partners are a random permutation; lambda is
/// of Beta(alpha, alpha). CutMix's box has sides sqrt(1 - lambda) of the image's (halves of them to whole pixels) and a
/// uniform middle, and is cut off at the image's sides, with the label's weight following (timm's and mmpretrain's
/// `correct_lam`).
std::vector<MixedRow> draw_mix(int64_t size, int64_t height, int64_t width, const MixOptions& options,
                               Generator& generator);

/// Mixes floating point images [B, C, H, W] on any device; the same shape and dtype. Throws c10::Error for others.
at::Tensor mix_images(const at::Tensor& images, const std::vector<MixedRow>& rows);

/// The targets that go with it: labels int64 [B], each in 0 ... classes - 1, to float32 [B, classes] on their device,
/// rows that add up to 1, not smoothed. Throws c10::Error for other shapes and dtypes.
at::Tensor mix_labels(const at::Tensor& labels, const std::vector<MixedRow>& rows, int64_t classes);

}  // namespace vrwkv::data

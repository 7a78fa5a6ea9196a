#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "data/options.h"

namespace vrwkv::data {

/// Which batch of the training it is: everything drawn for it is a function of this and of its samples' indices.
struct BatchPlace {
  std::uint64_t seed = 0;
  int64_t epoch = 0;
  int64_t batch = 0;  ///< Number of the batch in the epoch, from 0.
};

struct AugmentedBatch {
  at::Tensor images;   ///< As given, augmented.
  at::Tensor targets;  ///< float32 [B, classes] with mixing on, else the labels as given.
};

/// Whether the options ask for anything that augment_batch() does.
bool augments_batches(const DataOptions& options);

/// Erases (in place), then mixes normalised floating-point images [B, 3, H, W] with labels int64 [B] on any device.
/// `views` are Batch::views. What is drawn is drawn on the host, so it is the same on every device;
/// only the noise of erasing is the device's. Throws c10::Error for other shapes or dtypes.
AugmentedBatch augment_batch(const at::Tensor& images, const at::Tensor& labels, const std::vector<int64_t>& views,
                             const DataOptions& options, int64_t classes, const BatchPlace& place);

}  // namespace vrwkv::data

#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>

#include "data/dataset.h"
#include "data/options.h"
#include "eval/precision.h"
#include "vrwkv/masked_autoencoder.h"

namespace vrwkv::eval {

/// The first `count` images of `dataset` (all, if there are fewer) as evaluation sees them: uint8 [N, S, S, 3]. Throws
/// data::ImageError for one that cannot be read.
at::Tensor first_views(const data::Dataset& dataset, int64_t count, const data::EvalTransformOptions& transform);

/// What `model` makes of `views` uint8 [N, S, S, 3], masked by the fixed_noise() of images `first`, first + 1, …: uint8
/// [N, 3, S, S, 3], for each image itself, its visible patches on grey, and those completed by the predicted ones. A
/// prediction of normalised pixels is shown with the patch's own mean and deviation. The model is run in evaluation
/// mode, which is then restored.
at::Tensor reconstructions(MaskedAutoencoder model, const at::Tensor& views, const data::NormalizeOptions& normalize,
                           const Precision& precision, int64_t first = 0);

/// Writes reconstructions() as a PNG file, a row for each image; a few go through the network at once. Throws
/// std::runtime_error, naming the file, when it cannot be written.
void draw_reconstructions(const MaskedAutoencoder& model, const at::Tensor& views,
                          const data::NormalizeOptions& normalize, const Precision& precision,
                          const std::filesystem::path& png);

}  // namespace vrwkv::eval

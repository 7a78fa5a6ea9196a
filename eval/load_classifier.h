#pragma once

#include <filesystem>

#include "eval/precision.h"
#include "vrwkv/checkpoint/weights.h"
#include "vrwkv/masked_autoencoder.h"
#include "vrwkv/vrwkv_classifier.h"

namespace vrwkv::eval {

/// read_model_weights of the file that --checkpoint names; throws UsageError when it is not there.
ModelWeights read_checkpoint(const std::filesystem::path& path, WeightSet set = WeightSet::raw);

/// The classifier with weights that read_checkpoint gave for `path`, ready to run at `precision`. Throws
/// std::runtime_error that lists every missing, unexpected and mis-shaped tensor.
VrwkvClassifier load_classifier(const ClassifierOptions& options, const ModelWeights& weights,
                                const std::filesystem::path& path, const Precision& precision);

/// The same for a masked autoencoder.
MaskedAutoencoder load_autoencoder(const MaskedAutoencoderOptions& options, const ModelWeights& weights,
                                   const std::filesystem::path& path, const Precision& precision);

}  // namespace vrwkv::eval

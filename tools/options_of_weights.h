#pragma once

#include <string>

#include "vrwkv/checkpoint/weights.h"
#include "vrwkv/options.h"

namespace vrwkv::tools {

/// The options of the classifier that these weights are of, as far as names and shapes tell; the others keep their
/// defaults. Whether it normalises after the branches is in the configuration that our checkpoints carry; without one,
/// a network with layer scale counts as post-normalised, as all published ones are. Throws std::runtime_error, naming
/// `file` and the tensor or option, when there is no such classifier.
ClassifierOptions options_of_weights(const ModelWeights& weights, const std::string& file);

}  // namespace vrwkv::tools

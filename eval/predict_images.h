#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "config/run_config.h"
#include "eval/precision.h"
#include "vrwkv/vrwkv_classifier.h"

namespace vrwkv::eval {

struct ClassProbability {
  int64_t label = 0;
  double probability = 0;
};

struct ImagePrediction {
  std::string path;
  std::vector<ClassProbability> top;  ///< Most probable first; the lower class first where equal.
};

/// What predict_images tells as it goes on.
struct PredictionSinks {
  std::function<void(const ImagePrediction&)> predicted;
  std::function<void(const std::string& path, const std::string& message)> unreadable;  ///< The message has the path.
  /// The network's input for an image, float32 [3, S, S]; may be empty.
  std::function<void(const std::string& path, const at::Tensor& input)> network_input;
};

/// The `top_k` most probable classes (at most all) of each image file, in the order of `paths`, eval.batch_size at
/// once, with the configuration's evaluation transform. An image that cannot be read or decoded is told and passed
/// over.
void predict_images(VrwkvClassifier model, const std::vector<std::string>& paths, const config::RunConfig& config,
                    const Precision& precision, int64_t top_k, const PredictionSinks& sinks);

/// A key for each path: its base name, or, where several different paths share that, the path as it is.
std::map<std::string, std::string> input_keys(const std::vector<std::string>& paths);

}  // namespace vrwkv::eval

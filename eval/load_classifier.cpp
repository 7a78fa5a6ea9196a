#include "eval/load_classifier.h"

#include <stdexcept>

#include "common/errors.h"
#include "vrwkv/checkpoint/state_dict.h"
#include "vrwkv/checkpoint/weights.h"

namespace vrwkv::eval {
namespace {

/// A head for another number of classes is the usual mistake and gets a message of its own.
void check_head(const ModelWeights& weights, const ClassifierOptions& options, const std::filesystem::path& checkpoint) {
  for (const char* name : {"head.fc.bias", "head.2.bias"}) {
    const auto head = weights.tensors.find(name);
    if (head == weights.tensors.end() || head->second.dim() != 1) continue;
    if (head->second.size(0) == options.num_classes) continue;
    throw UsageError(checkpoint.string() + " has a head for " + std::to_string(head->second.size(0)) +
                     " classes, the configuration's model.num_classes is " + std::to_string(options.num_classes));
  }
}

}  // namespace

LoadedClassifier load_classifier(const config::RunConfig& config, const std::filesystem::path& checkpoint,
                                 const Precision& precision) {
  if (!std::filesystem::exists(checkpoint)) throw UsageError("--checkpoint: there is no file " + checkpoint.string());
  ModelWeights weights = read_model_weights(checkpoint);
  check_head(weights, config.model, checkpoint);
  LoadedClassifier loaded{VrwkvClassifier(config.model), std::move(weights.classes)};
  try {
    load_state_dict(*loaded.model, weights.tensors);
  } catch (const std::runtime_error& error) {
    throw std::runtime_error(checkpoint.string() + ": " + error.what());
  }
  loaded.model->to(precision.device, weights_dtype(precision.dtype));
  loaded.model->eval();
  return loaded;
}

}  // namespace vrwkv::eval

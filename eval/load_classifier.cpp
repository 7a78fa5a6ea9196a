#include "eval/load_classifier.h"

#include <stdexcept>

#include "common/errors.h"
#include "common/log.h"
#include "vrwkv/checkpoint/state_dict.h"

namespace vrwkv::eval {

ModelWeights read_checkpoint(const std::filesystem::path& path, WeightSet set) {
  if (!std::filesystem::exists(path)) throw UsageError("--checkpoint: " + path.string() + " does not exist");
  if (std::filesystem::is_directory(path)) {
    throw UsageError("--checkpoint: " + path.string() + " is a folder; name a .safetensors or .pth file in it");
  }
  return read_model_weights(path, set);
}

namespace {

bool of_the_public_kernel(const ModelWeights& weights) {
  const auto found = weights.metadata.find(kWkvKey);
  return found != weights.metadata.end() && found->second == kWkvPublished;
}

}  // namespace

VrwkvClassifier load_classifier(const ClassifierOptions& options, const ModelWeights& weights,
                                const std::filesystem::path& path, const Precision& precision) {
  ClassifierOptions quick = options;
  quick.backbone.linear_init = LinearInit::trunc_normal;  // overwritten at once; orthogonal matrices take their time
  WkvFormula& wkv = quick.backbone.wkv;
  const bool two_formulas = quick.backbone.attention == Attention::bi_wkv;
  if (two_formulas && wkv == WkvFormula::automatic && of_the_public_kernel(weights)) {
    wkv = WkvFormula::published;
    log::info("weights of the public kernel: evaluated with its formula of Bi-WKV; model.wkv=paper for the paper's");
  }
  VrwkvClassifier model(quick);
  try {
    load_state_dict(*model, weights.tensors);
  } catch (const c10::Error&) {
    throw;
  } catch (const std::runtime_error& error) {
    throw std::runtime_error(path.string() + ": " + error.what());
  }
  model->to(precision.device, weights_dtype(precision.dtype));
  model->eval();
  return model;
}

}  // namespace vrwkv::eval

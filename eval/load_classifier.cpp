#include "eval/load_classifier.h"

#include <stdexcept>

#include "common/errors.h"
#include "common/log.h"
#include "vrwkv/checkpoint/autoencoder_names.h"
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

/// What the weights themselves decide of a network's options.
VrwkvOptions settled(VrwkvOptions backbone, const ModelWeights& weights) {
  backbone.linear_init = LinearInit::trunc_normal;  // overwritten at once; orthogonal matrices take their time
  const bool two_formulas = backbone.attention == Attention::bi_wkv;
  if (two_formulas && backbone.wkv == WkvFormula::automatic && of_the_public_kernel(weights)) {
    backbone.wkv = WkvFormula::published;
    log::info("weights of the public kernel: evaluated with its formula of Bi-WKV; model.wkv=paper for the paper's");
  }
  return backbone;
}

void load(torch::nn::Module& model, const ModelWeights& weights, const std::filesystem::path& path,
          const Precision& precision) {
  try {
    load_state_dict(model, weights.tensors);
  } catch (const c10::Error&) {
    throw;
  } catch (const std::runtime_error& error) {
    throw std::runtime_error(path.string() + ": " + error.what());
  }
  model.to(precision.device, weights_dtype(precision.dtype));
  model.eval();
}

}  // namespace

VrwkvClassifier load_classifier(const ClassifierOptions& options, const ModelWeights& weights,
                                const std::filesystem::path& path, const Precision& precision) {
  if (is_autoencoder(weights.tensors)) {
    throw std::runtime_error(path.string() +
                             ": holds a masked autoencoder, not a classifier; train one from it with model.init_from, "
                             "or name a configuration with task: mae");
  }
  ClassifierOptions own = options;
  own.backbone = settled(options.backbone, weights);
  VrwkvClassifier model(own);
  load(*model, weights, path, precision);
  return model;
}

MaskedAutoencoder load_autoencoder(const MaskedAutoencoderOptions& options, const ModelWeights& weights,
                                   const std::filesystem::path& path, const Precision& precision) {
  if (!is_autoencoder(weights.tensors)) {
    throw std::runtime_error(path.string() +
                             ": holds no masked autoencoder, which a configuration with task: mae needs; name a "
                             "checkpoint of such a run");
  }
  MaskedAutoencoder model(MaskedAutoencoderOptions{settled(options.backbone, weights), options.mae});
  load(*model, weights, path, precision);
  return model;
}

}  // namespace vrwkv::eval

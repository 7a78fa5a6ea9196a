#include "train/init_weights.h"

#include <filesystem>
#include <stdexcept>

#include "common/errors.h"
#include "train/checkpoint_store.h"
#include "vrwkv/checkpoint/transfer.h"
#include "vrwkv/checkpoint/weights.h"

namespace vrwkv::train {
namespace {

/// Whether `resume` finds a checkpoint to go on from; `auto` in an empty folder starts a new run.
bool continues(const config::RunConfig& config, const std::optional<std::string>& resume) {
  return resume && (*resume != "auto" || !CheckpointStore(config.run.output_dir, 0).empty());
}

}  // namespace

std::vector<std::string> init_weights(const config::RunConfig& config, const std::optional<std::string>& resume,
                                      torch::nn::Module& model) {
  const std::filesystem::path path = config.init.from;
  if (path.empty() || continues(config, resume)) return {};
  if (!std::filesystem::is_regular_file(path)) {
    throw UsageError("model.init_from: there is no file " + path.string() +
                     "; name a checkpoint, .safetensors or .pth, or set it to \"\" to start from random weights");
  }
  const ModelWeights weights = read_model_weights(path, config.init.weights);
  try {
    std::vector<std::string> lines = describe(transfer_weights(model, weights.tensors));
    lines.insert(lines.begin(), "weights from " + path.string());
    const bool published = weights.metadata.at(kWkvKey) == kWkvPublished;
    const VrwkvOptions& backbone = config.model.backbone;
    if (published && backbone.attention == Attention::bi_wkv && backbone.wkv != WkvFormula::published) {
      lines.emplace_back("they were trained with the public kernel's formula of Bi-WKV; this run uses the paper's");
    }
    return lines;
  } catch (const std::runtime_error& error) {
    throw std::runtime_error("model.init_from: " + path.string() + ": " + error.what());
  }
}

}  // namespace vrwkv::train

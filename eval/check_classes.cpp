#include "eval/check_classes.h"

#include <algorithm>
#include <vector>

#include "common/errors.h"
#include "common/log.h"

namespace vrwkv::eval {
namespace {

/// True for the names 0, 1, 2, …, which training on numbered data leaves in a checkpoint.
bool only_numbers(const std::vector<std::string>& names) {
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (names[i] != std::to_string(i)) return false;
  }
  return true;
}

std::string numbers(const data::Dataset& dataset, const std::string& key, const config::RunConfig& config,
                    const ModelWeights* checkpoint) {
  std::string text = key + " has " + std::to_string(dataset.classes().size()) + " classes, the configuration " +
                     std::to_string(config.model.num_classes) + " (model.num_classes)";
  if (checkpoint != nullptr) text += ", the checkpoint's head " + std::to_string(head_classes(*checkpoint));
  return text;
}

void check_names(const data::Dataset& dataset, const std::string& key, const std::vector<std::string>& expected) {
  if (!dataset.has_class_names() || expected.empty() || only_numbers(expected)) return;
  const auto [in_data, in_checkpoint] = std::ranges::mismatch(dataset.classes(), expected);
  if (in_data == dataset.classes().end() || in_checkpoint == expected.end()) return;
  throw UsageError("class names differ: class " + std::to_string(in_data - dataset.classes().begin()) + " of " + key +
                   " is '" + *in_data + "', the checkpoint was trained with '" + *in_checkpoint +
                   "' there; use the data set of the training, or rename its class folders");
}

}  // namespace

int64_t head_classes(const ModelWeights& weights) {
  for (const char* name : {"head.fc.weight", "head.2.weight"}) {
    const auto found = weights.tensors.find(name);
    if (found != weights.tensors.end() && found->second.dim() == 2) return found->second.size(0);
  }
  return 0;
}

void check_head(const config::RunConfig& config, const ModelWeights& checkpoint) {
  const int64_t head = head_classes(checkpoint);
  if (head == 0 || head == config.model.num_classes) return;
  throw UsageError("class counts differ: the configuration has " + std::to_string(config.model.num_classes) +
                   " (model.num_classes), the checkpoint's head " + std::to_string(head) +
                   "; use the configuration that the checkpoint was trained with");
}

void check_classes(const data::Dataset& dataset, const std::string& key, const config::RunConfig& config,
                   const ModelWeights* checkpoint) {
  const auto in_data = static_cast<int64_t>(dataset.classes().size());
  const int64_t configured = config.model.num_classes;
  const int64_t head = checkpoint == nullptr ? 0 : head_classes(*checkpoint);
  const bool data_fits = dataset.has_class_names() ? in_data == configured : in_data <= configured;
  if (!data_fits || (head != 0 && head != configured)) {
    throw UsageError("class counts differ: " + numbers(dataset, key, config, checkpoint) +
                     "; all must be the same: correct model.num_classes or " + key + ".path");
  }
  if (in_data < configured) {
    log::warn(key + " numbers its classes and has labels for " + std::to_string(in_data) + " of " +
              std::to_string(configured) + " classes");
  }
  if (checkpoint != nullptr) check_names(dataset, key, checkpoint->classes);
}

}  // namespace vrwkv::eval

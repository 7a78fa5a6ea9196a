#include "eval/check_classes.h"

#include <algorithm>

#include "common/errors.h"

namespace vrwkv::eval {

void check_classes(const data::Dataset& dataset, const std::string& what, const config::RunConfig& config,
                   const std::vector<std::string>& checkpoint_classes) {
  const auto& classes = dataset.classes();
  const auto found = static_cast<int64_t>(classes.size());
  const int64_t wanted = config.model.num_classes;
  // A list or a WebDataset numbers its classes: it may lack the last ones, but have none beyond.
  if (dataset.has_class_names() ? found != wanted : found > wanted) {
    throw UsageError(what + " (" + config.data.val.path + ") has " + std::to_string(found) +
                     " classes, model.num_classes is " + std::to_string(wanted) +
                     (checkpoint_classes.empty() ? std::string()
                                                 : ", the checkpoint has " + std::to_string(checkpoint_classes.size())) +
                     "; set model.num_classes to the number of classes, or correct the path");
  }
  if (!dataset.has_class_names() || checkpoint_classes.empty() || classes == checkpoint_classes) return;
  const auto differing =
      std::mismatch(classes.begin(), classes.end(), checkpoint_classes.begin(), checkpoint_classes.end());
  const auto name = [](auto position, const auto& all) {
    return position == all.end() ? std::string("nothing") : "'" + *position + "'";
  };
  throw UsageError(what + ": class " + std::to_string(differing.first - classes.begin()) + " is " +
                   name(differing.first, classes) + " in the data and " + name(differing.second, checkpoint_classes) +
                   " in the checkpoint; the labels would not mean the same");
}

}  // namespace vrwkv::eval

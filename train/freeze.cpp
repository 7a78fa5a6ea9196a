#include "train/freeze.h"

#include <fnmatch.h>

#include <algorithm>
#include <set>

#include "common/errors.h"
#include "config/nearest_name.h"

namespace vrwkv::train {
namespace {

/// What a pattern could have meant: every name, and every part of one up to a dot with a star behind it.
std::vector<std::string> possible_patterns(const std::vector<std::string>& names) {
  std::set<std::string> patterns(names.begin(), names.end());
  for (const std::string& name : names) {
    for (size_t dot = name.find('.'); dot != std::string::npos; dot = name.find('.', dot + 1)) {
      patterns.insert(name.substr(0, dot + 1) + "*");
    }
  }
  return {patterns.begin(), patterns.end()};
}

[[noreturn]] void fail_unmatched(const std::string& pattern, const std::vector<std::string>& names) {
  const auto near = config::nearest_name(pattern, possible_patterns(names));
  throw UsageError(
      "train.freeze: no parameter's name matches '" + pattern + "'; " +
      (near ? "did you mean '" + *near + "'?" : "names are such as " + names.front() + ", " + names.back()));
}

}  // namespace

std::vector<std::string> freeze_parameters(torch::nn::Module& model, const std::vector<std::string>& patterns) {
  const auto parameters = model.named_parameters();
  const std::vector<std::string> names = parameters.keys();
  std::vector<bool> frozen(names.size());
  for (const std::string& pattern : patterns) {
    bool matched = false;
    for (size_t i = 0; i < names.size(); ++i) {
      if (::fnmatch(pattern.c_str(), names[i].c_str(), 0) != 0) continue;
      frozen[i] = matched = true;
    }
    if (!matched) fail_unmatched(pattern, names);
  }
  if (std::all_of(frozen.begin(), frozen.end(), [](bool is) { return is; })) {
    throw UsageError("train.freeze matches all " + std::to_string(names.size()) +
                     " parameters; leave some to train, such as head.*");
  }
  std::vector<std::string> found;
  for (size_t i = 0; i < names.size(); ++i) {
    if (!frozen[i]) continue;
    parameters[i].value().set_requires_grad(false);
    found.push_back(names[i]);
  }
  return found;
}

}  // namespace vrwkv::train

#include "vrwkv/checkpoint/transfer.h"

#include <algorithm>
#include <set>
#include <sstream>
#include <stdexcept>

#include "vrwkv/checkpoint/autoencoder_names.h"
#include "vrwkv/checkpoint/state_dict.h"

namespace vrwkv {
namespace {

using Tensors = std::map<std::string, torch::Tensor>;

bool in_head(const std::string& name) { return name.starts_with("head."); }

/// The layer that owns a tensor: its name without the last part.
std::string layer_of(const std::string& name) { return name.substr(0, name.rfind('.')); }

/// Layers of the model's head that the file does not have with the same shapes.
std::set<std::string> unfit_head_layers(const Tensors& target, const Tensors& source) {
  std::set<std::string> layers;
  for (const auto& [name, value] : target) {
    if (!in_head(name)) continue;
    const auto found = source.find(name);
    if (found == source.end() || found->second.sizes() != value.sizes()) layers.insert(layer_of(name));
  }
  return layers;
}

/// Sorts `names` of the model into the report; returns what to copy, and appends shapes that do not fit to `problems`.
Tensors match(const Tensors& target, const Tensors& source, TransferReport& report, std::ostream& problems) {
  const std::set<std::string> new_layers = unfit_head_layers(target, source);
  Tensors matched;
  for (const auto& [name, value] : target) {
    const auto found = source.find(name);
    if (in_head(name) && new_layers.contains(layer_of(name))) {
      report.new_head.push_back(name);
      continue;
    }
    if (found == source.end()) {
      report.missing.push_back(name);
      continue;
    }
    const torch::Tensor fitted = fit_pos_embed(name, found->second, value);
    if (fitted.sizes() != value.sizes()) {
      problems << "\n  " << name << ": the model has shape " << value.sizes() << ", the file " << fitted.sizes();
      continue;
    }
    (found->second.sizes() == value.sizes() ? report.loaded : report.resized).push_back(name);
    matched.emplace(name, fitted);
  }
  return matched;
}

/// The encoder of a masked autoencoder by a classifier's names; `decoder` receives the names of the rest.
Tensors encoder_of(const Tensors& autoencoder, std::vector<std::string>& decoder) {
  Tensors encoder;
  for (const auto& [name, tensor] : autoencoder) {
    if (const auto known = classifier_name(name)) {
      encoder.emplace(*known, tensor);
    } else {
      decoder.push_back(name);
    }
  }
  return encoder;
}

}  // namespace

TransferReport transfer_weights(torch::nn::Module& module, const Tensors& file) {
  const torch::NoGradGuard no_grad;
  const Tensors target = state_dict(module);
  TransferReport report;
  const bool encoder_alone = is_autoencoder(file) && !is_autoencoder(target);
  const Tensors tensors = encoder_alone ? encoder_of(file, report.decoder) : file;
  std::ostringstream problems;
  const Tensors matched = match(target, tensors, report, problems);
  if (!problems.str().empty()) {
    throw std::runtime_error("the weights are of another model than the configured one; correct the section model:" +
                             problems.str());
  }
  if (std::ranges::all_of(matched, [](const auto& item) { return in_head(item.first); })) {
    throw std::runtime_error("no tensor of the file has a name of the model's backbone, such as " +
                             target.begin()->first + "; the file has " +
                             (tensors.empty() ? "none at all" : "names such as " + tensors.begin()->first));
  }
  for (const auto& [name, tensor] : tensors) {
    if (matched.contains(name)) continue;
    (in_head(name) ? report.skipped : report.unexpected).push_back(name);
  }
  for (const auto& [name, value] : matched) torch::Tensor(target.at(name)).copy_(value);
  return report;
}

std::vector<std::string> describe(const TransferReport& report, size_t limit) {
  std::vector<std::string> lines;
  const auto add = [&](const std::string& kind, const std::vector<std::string>& names) {
    if (names.empty()) return;
    std::string line = kind + " (" + std::to_string(names.size()) + "):";
    for (size_t i = 0; i < std::min(limit, names.size()); ++i) line += (i > 0 ? ", " : " ") + names[i];
    if (names.size() > limit) line += ", …";
    lines.push_back(line);
  };
  add("loaded", report.loaded);
  add("resized to another grid", report.resized);
  add("head initialised anew", report.new_head);
  add("skipped, of the file's head", report.skipped);
  add("skipped, of the masked autoencoder's decoder", report.decoder);
  add("missing in the file, initialised anew", report.missing);
  add("unexpected in the file, not used", report.unexpected);
  return lines;
}

}  // namespace vrwkv

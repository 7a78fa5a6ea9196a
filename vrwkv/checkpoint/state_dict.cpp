#include "vrwkv/checkpoint/state_dict.h"

#include <sstream>
#include <stdexcept>

namespace vrwkv {

std::map<std::string, torch::Tensor> state_dict(const torch::nn::Module& module) {
  std::map<std::string, torch::Tensor> state;
  for (const auto& parameter : module.named_parameters()) state.emplace(parameter.key(), parameter.value().detach());
  for (const auto& buffer : module.named_buffers()) state.emplace(buffer.key(), buffer.value().detach());
  return state;
}

void load_state_dict(torch::nn::Module& module, const std::map<std::string, torch::Tensor>& tensors) {
  const auto target = state_dict(module);
  std::ostringstream problems;
  for (const auto& [name, value] : target) {
    const auto found = tensors.find(name);
    if (found == tensors.end()) {
      problems << "\n  missing " << name << " " << value.sizes();
    } else if (found->second.sizes() != value.sizes()) {
      problems << "\n  " << name << ": the model has shape " << value.sizes() << ", the file " << found->second.sizes();
    }
  }
  for (const auto& [name, value] : tensors) {
    if (!target.contains(name)) problems << "\n  unexpected " << name << " " << value.sizes();
  }
  if (!problems.str().empty()) {
    throw std::runtime_error("the weights do not fit the configured model:" + problems.str());
  }
  const torch::NoGradGuard no_grad;
  for (const auto& [name, value] : target) torch::Tensor(value).copy_(tensors.at(name));
}

}  // namespace vrwkv

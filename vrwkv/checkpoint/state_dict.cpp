#include "vrwkv/checkpoint/state_dict.h"

#include <cmath>
#include <optional>
#include <sstream>
#include <stdexcept>

#include "vrwkv/vrwkv.h"

namespace vrwkv {
namespace {

/// The square grid of a position embedding [1, side * side, C]; nothing for another shape.
std::optional<Grid> square_grid(at::IntArrayRef sizes) {
  if (sizes.size() != 3 || sizes[0] != 1) return std::nullopt;
  const auto side = static_cast<int64_t>(std::llround(std::sqrt(static_cast<double>(sizes[1]))));
  if (side == 0 || side * side != sizes[1]) return std::nullopt;
  return Grid{side, side};
}

}  // namespace

torch::Tensor fit_pos_embed(const std::string& name, const torch::Tensor& value, const torch::Tensor& target) {
  if (name != "pos_embed" && !name.ends_with(".pos_embed")) return value;
  const auto from = square_grid(value.sizes()), to = square_grid(target.sizes());
  if (!from || !to || value.size(2) != target.size(2)) return value;
  // Half precision is too coarse to interpolate in.
  return resize_pos_embed(value.scalar_type() == at::kDouble ? value : value.to(at::kFloat), *from, *to);
}

std::map<std::string, torch::Tensor> state_dict(const torch::nn::Module& module) {
  std::map<std::string, torch::Tensor> state;
  for (const auto& parameter : module.named_parameters()) state.emplace(parameter.key(), parameter.value().detach());
  for (const auto& buffer : module.named_buffers()) state.emplace(buffer.key(), buffer.value().detach());
  return state;
}

void load_state_dict(torch::nn::Module& module, const std::map<std::string, torch::Tensor>& tensors,
                     const LoadOptions& options) {
  const torch::NoGradGuard no_grad;
  const auto target = state_dict(module);
  std::map<std::string, torch::Tensor> source;
  std::ostringstream problems;
  for (const auto& [name, value] : target) {
    const auto found = tensors.find(name);
    if (found == tensors.end()) {
      problems << "\n  missing " << name << " " << value.sizes();
      continue;
    }
    const torch::Tensor given = options.resize_pos_embed ? fit_pos_embed(name, found->second, value) : found->second;
    source.emplace(name, given);
    if (given.sizes() != value.sizes()) {
      problems << "\n  " << name << ": the model has shape " << value.sizes() << ", the file " << given.sizes();
    }
  }
  for (const auto& [name, value] : tensors) {
    if (!target.contains(name)) problems << "\n  unexpected " << name << " " << value.sizes();
  }
  if (!problems.str().empty()) {
    throw std::runtime_error("the weights do not fit the configured model:" + problems.str());
  }
  for (const auto& [name, value] : target) torch::Tensor(value).copy_(source.at(name));
}

}  // namespace vrwkv

#include "deploy/trace.h"

#include <torch/csrc/jit/frontend/tracer.h>

#include <memory>
#include <utility>

namespace vrwkv::deploy {
namespace {

using CompilationUnit = std::shared_ptr<torch::jit::CompilationUnit>;

/// The tree of modules with its parameters and buffers, without any code.
torch::jit::Module mirror(const torch::nn::Module& module, const std::string& name, const CompilationUnit& unit) {
  torch::jit::Module copy(c10::QualifiedName("vrwkv." + name), unit, /*shouldMangle=*/true);
  for (const auto& item : module.named_parameters(/*recurse=*/false)) {
    copy.register_parameter(item.key(), item.value(), /*is_buffer=*/false);
  }
  for (const auto& item : module.named_buffers(/*recurse=*/false)) copy.register_buffer(item.key(), item.value());
  for (const auto& item : module.named_children()) {
    // A name of a type may not begin with a digit.
    copy.register_module(item.key(), mirror(*item.value(), name + ".m_" + item.key(), unit));
  }
  return copy;
}

}  // namespace

torch::jit::Module trace(VrwkvClassifier model, const torch::Tensor& example) {
  const torch::NoGradGuard no_grad;
  for (torch::Tensor& parameter : model->parameters()) parameter.set_requires_grad(false);
  const auto unit = std::make_shared<torch::jit::CompilationUnit>();
  torch::jit::Module module = mirror(*model, "VrwkvClassifier", unit);
  const auto forward = [&](const torch::jit::Stack& inputs) -> torch::jit::Stack {
    return {model->forward(inputs.at(0).toTensor())};
  };
  const auto no_names = [](const torch::autograd::Variable&) { return std::string(); };
  const auto state = torch::jit::tracer::trace({example}, forward, no_names, /*strict=*/true, /*force_outplace=*/false,
                                               &module, {"images"})
                         .first;
  auto* function = unit->create_function(c10::QualifiedName(*module.type()->name(), "forward"), state->graph);
  module.type()->addMethod(function);
  return module;
}

}  // namespace vrwkv::deploy

#include "deploy/onnx_export.h"

#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/ir/ir.h>

#include <algorithm>
#include <unordered_map>
#include <vector>

#include "deploy/onnx_ops.h"

namespace vrwkv::deploy {
namespace {

using torch::jit::Node;
using torch::jit::Value;

/// Walks a traced graph: computes what is known, and writes the rest.
class Exporter {
 public:
  explicit Exporter(const torch::jit::Module& traced)
      : graph_(traced.get_method("forward").graph()), self_(traced._ivalue()) {}

  std::string run(const std::map<std::string, std::string>& metadata) {
    values_[graph_->inputs().at(0)] = {self_, {}};
    values_[graph_->inputs().at(1)] = {{}, {"images"}};
    for (const Node* node : graph_->nodes()) {
      std::vector<GraphValue> results = visit(*node);
      for (size_t i = 0; i < results.size(); ++i) values_[node->outputs().at(i)] = std::move(results[i]);
    }
    const Value* logits = graph_->outputs().at(0);
    return onnx_.finish(value("images", *graph_->inputs().at(1)), value("logits", *logits),
                        values_.at(logits).names.at(0), metadata);
  }

 private:
  static OnnxBuilder::Value value(const std::string& name, const Value& traced) {
    OnnxBuilder::Value value{name, {{0, "batch"}}};
    const auto shape = traced.type()->expectRef<c10::TensorType>().sizes().concrete_sizes().value();
    for (size_t i = 1; i < shape.size(); ++i) value.shape.push_back({shape[i], ""});
    return value;
  }

  std::vector<GraphValue> visit(const Node& node) {
    std::vector<GraphValue> inputs;
    for (const Value* input : node.inputs()) inputs.push_back(values_.at(input));
    const bool known = std::ranges::all_of(inputs, &GraphValue::is_known);
    switch (node.kind()) {
      case c10::prim::Constant:
        return {{torch::jit::toIValue(node.output()).value(), {}}};
      case c10::prim::GetAttr:
        return {{inputs.at(0).known.toObject()->getAttr(node.s(c10::attr::name)), {}}};
      case c10::prim::ListConstruct:
        return {{list(node, inputs), {}}};
      case c10::prim::ListUnpack:
        return unpacked(inputs.at(0));
      default:
        return known ? computed(node, inputs) : convert_node(onnx_, node, inputs);
    }
  }

  static std::vector<GraphValue> unpacked(const GraphValue& list) {
    std::vector<GraphValue> items;
    for (const std::string& name : list.names) items.push_back({{}, {name}});
    return items;
  }

  /// The lists of these graphs hold sizes or weights.
  static c10::IValue list(const Node& node, const std::vector<GraphValue>& inputs) {
    if (*node.output()->type() == *c10::ListType::ofInts()) {
      std::vector<int64_t> numbers;
      for (const GraphValue& input : inputs) numbers.push_back(input.known.toInt());
      return numbers;
    }
    std::vector<torch::Tensor> tensors;
    for (const GraphValue& input : inputs) tensors.push_back(input.known.toTensor());
    return tensors;
  }

  static std::vector<GraphValue> computed(const Node& node, const std::vector<GraphValue>& inputs) {
    torch::jit::Stack stack;
    for (const GraphValue& input : inputs) stack.push_back(input.known);
    node.getOperation()(stack);
    std::vector<GraphValue> results;
    for (const c10::IValue& result : stack) results.push_back({result, {}});
    return results;
  }

  std::shared_ptr<torch::jit::Graph> graph_;
  c10::IValue self_;
  OnnxBuilder onnx_;
  std::unordered_map<const Value*, GraphValue> values_;
};

}  // namespace

std::string onnx_model(const torch::jit::Module& traced, const std::map<std::string, std::string>& metadata) {
  const torch::NoGradGuard no_grad;
  return Exporter(traced).run(metadata);
}

}  // namespace vrwkv::deploy

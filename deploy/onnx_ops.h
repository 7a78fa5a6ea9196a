#pragma once

#include <torch/csrc/jit/ir/ir.h>

#include <string>
#include <vector>

#include "deploy/onnx_builder.h"

namespace vrwkv::deploy {

/// A value of a traced graph: known at the time of the export, or computed by the ONNX model under a name, or, for an
/// operation with several results, names.
struct GraphValue {
  c10::IValue known;               ///< Where there are no names.
  std::vector<std::string> names;  ///< Of one tensor, or of a list's.
  bool is_known() const { return names.empty(); }
};

/// The results of `node` in standard operators. Throws UsageError for an operation that has no such form here.
std::vector<GraphValue> convert_node(OnnxBuilder& onnx, const torch::jit::Node& node,
                                     const std::vector<GraphValue>& inputs);

}  // namespace vrwkv::deploy

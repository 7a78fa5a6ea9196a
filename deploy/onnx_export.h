#pragma once

#include <torch/csrc/jit/api/module.h>

#include <map>
#include <string>

namespace vrwkv::deploy {

/// The bytes of an ONNX model that computes what `traced`, the float32 result of trace(), does: input `images`, float32
/// [B, C, H, W] with any B and the C, H and W of the trace; output `logits`, float32 [B, classes]. Whatever depends on
/// weights alone is computed here, once. Throws UsageError for operations without a form in standard operators (those
/// of VRWKV6), and when the file would pass ONNX's 2 GiB.
std::string onnx_model(const torch::jit::Module& traced, const std::map<std::string, std::string>& metadata);

}  // namespace vrwkv::deploy

#include "deploy/onnx_ops.h"

#include <ATen/Functions.h>

#include <functional>
#include <unordered_map>

#include "common/errors.h"
#include "deploy/onnx_wkv.h"
#include "ops/q_shift_geometry.h"
#include "ops/residual_add.h"

namespace vrwkv::deploy {
namespace {

/// One operation with its arguments.
class Call {
 public:
  Call(OnnxBuilder& builder, const torch::jit::Node& node, const std::vector<GraphValue>& inputs)
      : onnx(builder), node_(node), inputs_(inputs) {}

  OnnxBuilder& onnx;

  bool has(size_t i) const { return !inputs_.at(i).is_known() || !inputs_.at(i).known.isNone(); }
  const c10::IValue& known(size_t i) const {
    if (!inputs_.at(i).is_known()) refuse("argument " + std::to_string(i) + " depends on the images");
    return inputs_.at(i).known;
  }
  int64_t integer(size_t i) const { return known(i).toInt(); }
  torch::Tensor weight(size_t i) const { return known(i).toTensor(); }
  /// The name of a tensor; one that is known becomes a constant of the model.
  std::string tensor(size_t i) const {
    const GraphValue& value = inputs_.at(i);
    return value.is_known() ? onnx.constant(value.known.toTensor()) : value.names.at(0);
  }
  std::string op(const std::string& name) const { return onnx.node(name, {tensor(0)}); }

  /// The shape that the trace saw, where the first dimension is the batch.
  static std::vector<int64_t> shape(const torch::jit::Value& value) {
    return value.type()->expectRef<c10::TensorType>().sizes().concrete_sizes().value();
  }
  std::vector<int64_t> input_shape(size_t i) const { return shape(*node_.inputs().at(i)); }
  std::vector<int64_t> output_shape() const { return shape(*node_.output()); }

  [[noreturn]] void refuse(const std::string& why) const {
    throw UsageError(std::string("the operation ") + node_.kind().toQualString() + " of this model has no ONNX form (" +
                     why + "); export to a .pt file instead");
  }

 private:
  const torch::jit::Node& node_;
  const std::vector<GraphValue>& inputs_;
};

/// To `shape`, whose first dimension, the batch, stays.
std::string reshape(OnnxBuilder& onnx, const std::string& x, std::vector<int64_t> shape) {
  shape.front() = 0;
  return onnx.node("Reshape", {x, onnx.constant(shape)});
}

std::string reshape_as_traced(const Call& call) { return reshape(call.onnx, call.tensor(0), call.output_shape()); }

/// Over the last dimension; `weight` and `bias` may be empty.
std::string layer_norm(OnnxBuilder& onnx, const std::string& x, const std::string& weight, const std::string& bias,
                       int64_t channels, double eps) {
  const std::string scale = weight.empty() ? onnx.constant(torch::ones({channels})) : weight;
  std::vector<std::string> inputs{x, scale};
  if (!bias.empty()) inputs.push_back(bias);
  return onnx.node("LayerNormalization", inputs, {{"axis", int64_t{-1}}, {"epsilon", static_cast<float>(eps)}});
}

std::string layer_norm_of(const Call& call) {
  return layer_norm(call.onnx, call.tensor(0), call.has(2) ? call.tensor(2) : "", call.has(3) ? call.tensor(3) : "",
                    call.input_shape(0).back(), call.known(4).toDouble());
}

/// ops::q_shift(): a quarter moves by a row of zeros at one end and one row less at the other.
std::string q_shift(OnnxBuilder& onnx, const std::string& x, int64_t height, int64_t width, int64_t channels) {
  const ops::QShiftGeometry geometry{1, height, width, channels, channels, 1};
  const std::string map = reshape(onnx, x, {0, height, width, channels});
  std::vector<std::string> groups;
  for (int64_t group = 0; group < 4; ++group) {
    const int64_t begin = geometry.bound(group), end = geometry.bound(group + 1);
    if (begin == end) continue;
    const int64_t dim = group < 2 ? 2 : 1, size = group < 2 ? width : height;
    const bool reads_before = group % 2 == 0;
    std::vector<int64_t> pads(8);
    pads[static_cast<size_t>(reads_before ? dim : 4 + dim)] = 1;
    const std::string padded = onnx.node("Pad", {onnx.slice(map, 3, begin, end), onnx.constant(pads)});
    groups.push_back(onnx.slice(padded, dim, reads_before ? 0 : 1, reads_before ? size : size + 1));
  }
  return reshape(onnx, onnx.node("Concat", groups, {{"axis", int64_t{3}}}), {0, height * width, channels});
}

constexpr const char* kOnlyBiWkv = "ONNX export is for models with attention: bi_wkv";

/// A norm's weight and bias, q_shift of x and the mixes that follow: arguments `norm` and the one behind it (may be
/// none), `height` and the one behind it.
std::vector<std::string> shift_mixes(const Call& call, std::string x, const std::vector<torch::Tensor>& mixes,
                                     size_t norm, size_t height) {
  OnnxBuilder& onnx = call.onnx;
  if (call.has(norm)) x = onnx.add(onnx.mul(x, call.tensor(norm)), call.tensor(norm + 1));
  const int64_t channels = call.input_shape(0).back();
  const std::string shifted = q_shift(onnx, x, call.integer(height), call.integer(height + 1), channels);
  const std::string difference = onnx.sub(x, shifted);
  std::vector<std::string> mixed;
  for (const torch::Tensor& mix : mixes) {
    mixed.push_back(onnx.add(shifted, onnx.mul(difference, onnx.constant(mix))));
  }
  return mixed;
}

/// ops::token_shift_mix()
std::vector<std::string> token_shift_mix(const Call& call) {
  if (call.has(6)) call.refuse(kOnlyBiWkv);  // A shift within heads.
  return shift_mixes(call, call.tensor(0), call.known(1).toTensorVector(), 2, 4);
}

/// x weight^T
std::string product(OnnxBuilder& onnx, const std::string& x, const torch::Tensor& weight) {
  return onnx.node("MatMul", {x, onnx.constant(weight.t())});
}

/// ops::token_shift_linear()
std::vector<std::string> token_shift_linear(const Call& call) {
  std::vector<std::string> results = shift_mixes(call, call.tensor(0), call.known(1).toTensorVector(), 3, 5);
  const std::vector<torch::Tensor> weights = call.known(2).toTensorVector();
  for (size_t j = 0; j < results.size(); ++j) results[j] = product(call.onnx, results[j], weights[j]);
  return results;
}

std::string squared_relu(OnnxBuilder& onnx, const std::string& x) {
  const std::string positive = onnx.node("Relu", {x});
  return onnx.mul(positive, positive);
}

/// relu(x key^T)^2 value^T
std::string squared_relu_mlp(OnnxBuilder& onnx, const std::string& x, const torch::Tensor& key,
                             const torch::Tensor& value) {
  return product(onnx, squared_relu(onnx, product(onnx, x, key)), value);
}

/// A sum, and what the next branch reads of it.
std::vector<std::string> with_feed(OnnxBuilder& onnx, const std::string& sum, int64_t feed, int64_t channels,
                                   double eps) {
  const bool standardized = static_cast<ops::Feed>(feed) == ops::Feed::standardized;
  return {sum, standardized ? layer_norm(onnx, sum, "", "", channels, eps) : sum};
}

/// ops::residual_add(): the sum and what the next branch reads.
std::vector<std::string> residual_add(const Call& call) {
  OnnxBuilder& onnx = call.onnx;
  if (call.has(6)) call.refuse("stochastic depth is for training");
  const int64_t channels = call.input_shape(1).back();
  const double eps = call.known(8).toDouble();
  std::string sum = call.tensor(1);
  if (call.has(2)) sum = onnx.mul(sum, onnx.node("Sigmoid", {call.tensor(2)}));
  if (call.has(3)) sum = layer_norm(onnx, sum, call.tensor(3), call.tensor(4), channels, eps);
  if (call.has(5)) sum = onnx.mul(sum, call.tensor(5));
  if (call.has(0)) sum = onnx.add(call.tensor(0), sum);
  return with_feed(onnx, sum, call.integer(7), channels, eps);
}

/// ops::linear_residual()
std::vector<std::string> linear_residual(const Call& call) {
  if (call.has(3)) call.refuse("stochastic depth is for training");
  const std::string sum = call.onnx.add(call.tensor(0), product(call.onnx, call.tensor(1), call.weight(2)));
  return with_feed(call.onnx, sum, call.integer(4), call.input_shape(0).back(), call.known(5).toDouble());
}

/// ops::linear_residual_channel_mix()
std::vector<std::string> linear_residual_channel_mix(const Call& call) {
  OnnxBuilder& onnx = call.onnx;
  const int64_t channels = call.input_shape(0).back();
  const double eps = call.known(14).toDouble();
  const std::string sum = onnx.add(call.tensor(0), product(onnx, call.tensor(1), call.weight(2)));
  const std::vector<std::string> between = with_feed(onnx, sum, call.integer(12), channels, eps);
  const std::vector<std::string> mixed = shift_mixes(call, between[1], {call.weight(3), call.weight(4)}, 8, 10);
  const std::string value = squared_relu_mlp(onnx, mixed[0], call.weight(5), call.weight(7));
  const std::string gate = onnx.node("Sigmoid", {product(onnx, mixed[1], call.weight(6))});
  return with_feed(onnx, onnx.add(between[0], onnx.mul(value, gate)), call.integer(13), channels, eps);
}

/// ops::patch_embed()
std::string patch_embed(const Call& call) {
  OnnxBuilder& onnx = call.onnx;
  const std::vector<int64_t> images = call.input_shape(0), tokens = call.output_shape();
  const torch::Tensor weight = call.weight(1);
  const int64_t patch = weight.size(2), height = images[2] / patch, width = images[3] / patch;
  const std::string pixels = reshape(onnx, call.tensor(0), {0, images[1], height, patch, width, patch});
  const std::string apart = onnx.node("Transpose", {pixels}, {{"perm", std::vector<int64_t>{0, 2, 4, 1, 3, 5}}});
  const std::string rows = reshape(onnx, apart, {0, tokens[1], images[1] * patch * patch});
  return onnx.add(product(onnx, rows, weight.flatten(1)), onnx.add(call.tensor(2), call.tensor(3)));
}

/// ops::token_mean()
std::string token_mean(const Call& call) {
  return call.onnx.node("ReduceMean", {call.tensor(0)},
                        {{"axes", std::vector<int64_t>{1}}, {"keepdims", int64_t{false}}});
}

std::string bi_wkv(const Call& call) {
  return onnx_bi_wkv(call.onnx, call.weight(0), call.weight(1), call.tensor(2), call.tensor(3), call.input_shape(2)[1]);
}

std::string bi_wkv_published(const Call& call) {
  return onnx_bi_wkv_published(call.onnx, call.weight(0), call.weight(1), call.tensor(2), call.tensor(3),
                               call.input_shape(2)[1]);
}

std::string bi_wkv_gated(const Call& call) {
  return call.onnx.mul(call.onnx.node("Sigmoid", {call.tensor(4)}), bi_wkv(call));
}

std::string linear(const Call& call) {
  const std::string result = product(call.onnx, call.tensor(0), call.weight(1));
  return call.has(2) ? call.onnx.add(result, call.tensor(2)) : result;
}

/// The factors of addmm and addcmul, which the models leave at 1.
void expect_one(const Call& call, size_t i) {
  if (call.known(i).toScalar().toDouble() != 1) call.refuse("a factor that is not 1");
}

std::string addmm(const Call& call) {
  expect_one(call, 3);
  expect_one(call, 4);
  return call.onnx.add(call.onnx.node("MatMul", {call.tensor(1), call.tensor(2)}), call.tensor(0));
}

std::string addcmul(const Call& call) {
  expect_one(call, 3);
  return call.onnx.add(call.tensor(0), call.onnx.mul(call.tensor(1), call.tensor(2)));
}

std::string add(const Call& call) {
  expect_one(call, 2);
  return call.onnx.add(call.tensor(0), call.tensor(1));
}

using TwoResults = std::function<std::vector<std::string>(const Call&)>;

const std::unordered_map<std::string, TwoResults>& residual_sums() {
  static const std::unordered_map<std::string, TwoResults> table{
      {"vrwkv::linear_residual", linear_residual},
      {"vrwkv::linear_residual_channel_mix", linear_residual_channel_mix},
      {"vrwkv::residual_add", residual_add},
  };
  return table;
}

using OneResult = std::function<std::string(const Call&)>;

const std::unordered_map<std::string, OneResult>& one_result() {
  static const auto same = [](const Call& call) { return call.tensor(0); };
  static const std::unordered_map<std::string, OneResult> table{
      {"aten::add", add},
      {"aten::addcmul", addcmul},
      {"aten::addmm", addmm},
      {"aten::dropout", same},
      {"aten::flatten", reshape_as_traced},
      {"aten::layer_norm", layer_norm_of},
      {"aten::linear", linear},
      {"aten::matmul", [](const Call& call) { return call.onnx.node("MatMul", {call.tensor(0), call.tensor(1)}); }},
      {"aten::mul", [](const Call& call) { return call.onnx.mul(call.tensor(0), call.tensor(1)); }},
      {"aten::sigmoid", [](const Call& call) { return call.op("Sigmoid"); }},
      {"aten::tanh", [](const Call& call) { return call.op("Tanh"); }},
      {"aten::to", same},  // All is float32.
      {"vrwkv::bi_wkv", bi_wkv},
      {"vrwkv::bi_wkv_gated", bi_wkv_gated},
      {"vrwkv::bi_wkv_published", bi_wkv_published},
      {"vrwkv::patch_embed", patch_embed},
      {"vrwkv::squared_relu", [](const Call& call) { return squared_relu(call.onnx, call.tensor(0)); }},
      {"vrwkv::squared_relu_mlp",
       [](const Call& call) { return squared_relu_mlp(call.onnx, call.tensor(0), call.weight(1), call.weight(2)); }},
      {"vrwkv::token_mean", token_mean},
  };
  return table;
}

}  // namespace

std::vector<GraphValue> convert_node(OnnxBuilder& onnx, const torch::jit::Node& node,
                                     const std::vector<GraphValue>& inputs) {
  const Call call(onnx, node, inputs);
  const std::string kind = node.kind().toQualString();
  if (kind == "vrwkv::token_shift_mix") return {GraphValue{{}, token_shift_mix(call)}};
  if (kind == "vrwkv::token_shift_linear") return {GraphValue{{}, token_shift_linear(call)}};
  if (const auto found = residual_sums().find(kind); found != residual_sums().end()) {
    const std::vector<std::string> both = found->second(call);
    return {GraphValue{{}, {both[0]}}, GraphValue{{}, {both[1]}}};
  }
  const auto found = one_result().find(kind);
  if (found == one_result().end()) call.refuse(kOnlyBiWkv);
  return {GraphValue{{}, {found->second(call)}}};
}

}  // namespace vrwkv::deploy

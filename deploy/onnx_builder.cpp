#include "deploy/onnx_builder.h"

#include <ATen/Functions.h>

#include <limits>
#include <protozero/pbf_writer.hpp>
#include <stdexcept>

#include "common/errors.h"

namespace vrwkv::deploy {
namespace {

using protozero::pbf_writer;

constexpr int64_t kIrVersion = 8, kOpset = 17;  ///< Of ONNX 1.12, 2022.
constexpr int32_t kFloat = 1, kInt64 = 7, kDouble = 11;
constexpr int32_t kAttributeFloat = 1, kAttributeInt = 2, kAttributeInts = 7;

int32_t type_of(const torch::Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case torch::kFloat:
      return kFloat;
    case torch::kDouble:
      return kDouble;
    case torch::kLong:
      return kInt64;
    default:
      throw std::logic_error(std::string("OnnxBuilder: no constants of type ") + c10::toString(tensor.scalar_type()));
  }
}

// The numbers of the fields are those of onnx.proto3.

std::string attribute(const std::string& name, const OnnxBuilder::Attribute& value) {
  std::string data;
  pbf_writer writer(data);
  writer.add_string(1, name);
  if (const auto* integer = std::get_if<int64_t>(&value)) {
    writer.add_int64(3, *integer);
    writer.add_int32(20, kAttributeInt);
  } else if (const auto* number = std::get_if<float>(&value)) {
    writer.add_float(2, *number);
    writer.add_int32(20, kAttributeFloat);
  } else {
    for (const int64_t item : std::get<std::vector<int64_t>>(value)) writer.add_int64(8, item);
    writer.add_int32(20, kAttributeInts);
  }
  return data;
}

std::string value_info(const OnnxBuilder::Value& value) {
  std::string shape;
  for (const auto& [size, name] : value.shape) {
    std::string dimension;
    pbf_writer writer(dimension);
    name.empty() ? writer.add_int64(1, size) : writer.add_string(2, name);
    pbf_writer(shape).add_message(1, dimension);
  }
  std::string tensor, type, data;
  pbf_writer(tensor).add_int32(1, kFloat);
  pbf_writer(tensor).add_message(2, shape);
  pbf_writer(type).add_message(1, tensor);
  pbf_writer(data).add_string(1, value.name);
  pbf_writer(data).add_message(2, type);
  return data;
}

}  // namespace

std::string OnnxBuilder::new_name() {
  std::string name = "v";
  name += std::to_string(values_++);
  return name;
}

std::string OnnxBuilder::constant(const torch::Tensor& tensor) {
  const torch::Tensor whole = tensor.detach().cpu().contiguous();
  std::string data, name = new_name();
  pbf_writer writer(data);
  for (const int64_t size : whole.sizes()) writer.add_int64(1, size);
  writer.add_int32(2, type_of(whole));
  writer.add_string(8, name);
  writer.add_bytes(9, static_cast<const char*>(whole.const_data_ptr()), whole.nbytes());
  initializers_.push_back(std::move(data));
  return name;
}

std::string OnnxBuilder::constant(const std::vector<int64_t>& numbers) {
  return constant(torch::tensor(numbers, torch::kLong));
}

std::string OnnxBuilder::constant(double number) { return constant(torch::full({}, number, torch::kFloat)); }

std::string OnnxBuilder::node(const std::string& op, const std::vector<std::string>& inputs,
                              const Attributes& attributes) {
  std::string data, name = new_name();
  pbf_writer writer(data);
  for (const std::string& input : inputs) writer.add_string(1, input);
  writer.add_string(2, name);
  writer.add_string(3, op + "_" + name);
  writer.add_string(4, op);
  for (const auto& [key, value] : attributes) writer.add_message(5, attribute(key, value));
  nodes_.push_back(std::move(data));
  return name;
}

std::string OnnxBuilder::slice(const std::string& x, int64_t dim, int64_t begin, int64_t end) {
  return node("Slice", {x, constant(std::vector{begin}), constant(std::vector{end}), constant(std::vector{dim})});
}

std::string OnnxBuilder::finish(const Value& input, const Value& output, const std::string& result,
                                const std::map<std::string, std::string>& metadata) {
  std::string identity;
  {
    pbf_writer writer(identity);
    writer.add_string(1, result);
    writer.add_string(2, output.name);
    writer.add_string(4, "Identity");
  }
  std::string graph, model, opset;
  pbf_writer graph_writer(graph);
  for (const std::string& node : nodes_) graph_writer.add_message(1, node);
  graph_writer.add_message(1, identity);
  graph_writer.add_string(2, "vrwkv");
  for (const std::string& initializer : initializers_) graph_writer.add_message(5, initializer);
  graph_writer.add_message(11, value_info(input));
  graph_writer.add_message(12, value_info(output));
  if (graph.size() > static_cast<size_t>(std::numeric_limits<int32_t>::max())) {
    throw std::runtime_error("the model takes " + std::to_string(graph.size()) +
                             " bytes, an ONNX file holds 2147483647 at most; export to .pt instead");
  }
  pbf_writer(opset).add_int64(2, kOpset);
  pbf_writer writer(model);
  writer.add_int64(1, kIrVersion);
  writer.add_string(2, "vrwkv-export");
  writer.add_message(7, graph);
  writer.add_message(8, opset);
  for (const auto& [key, value] : metadata) {
    std::string entry;
    pbf_writer(entry).add_string(1, key);
    pbf_writer(entry).add_string(2, value);
    writer.add_message(14, entry);
  }
  return model;
}

}  // namespace vrwkv::deploy

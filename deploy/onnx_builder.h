#pragma once

#include <torch/types.h>

#include <cstdint>
#include <map>
#include <string>
#include <variant>
#include <vector>

namespace vrwkv::deploy {

/// A float32 model of the Open Neural Network Exchange in the making (onnx.ai, onnx.proto3; operator set 17). Values
/// are known by the names that the members return. Nothing of ONNX or protobuf is linked: protozero writes the fields.
class OnnxBuilder {
 public:
  using Attribute = std::variant<int64_t, std::vector<int64_t>, float>;
  using Attributes = std::map<std::string, Attribute>;

  /// A value that does not depend on the input: float32, float64 or int64, any shape.
  std::string constant(const torch::Tensor& tensor);
  std::string constant(const std::vector<int64_t>& numbers);
  std::string constant(double number);  ///< float32, 0-d.

  /// An operator with one result. An empty input is an optional one that is left out.
  std::string node(const std::string& op, const std::vector<std::string>& inputs, const Attributes& attributes = {});

  std::string add(const std::string& a, const std::string& b) { return node("Add", {a, b}); }
  std::string sub(const std::string& a, const std::string& b) { return node("Sub", {a, b}); }
  std::string mul(const std::string& a, const std::string& b) { return node("Mul", {a, b}); }
  std::string div(const std::string& a, const std::string& b) { return node("Div", {a, b}); }

  /// Elements begin ... end - 1 of dimension `dim`.
  std::string slice(const std::string& x, int64_t dim, int64_t begin, int64_t end);

  /// A dimension of an input or the output: a number, or a name for one that varies.
  struct Dimension {
    int64_t size = 0;
    std::string name;
  };
  struct Value {
    std::string name;
    std::vector<Dimension> shape;
  };

  /// The model's bytes: from `input` to `output`, both float32. `output` gets its name by an Identity of `result`.
  std::string finish(const Value& input, const Value& output, const std::string& result,
                     const std::map<std::string, std::string>& metadata);

 private:
  std::string new_name();

  std::vector<std::string> nodes_, initializers_;  ///< As encoded messages.
  int64_t values_ = 0;
};

}  // namespace vrwkv::deploy

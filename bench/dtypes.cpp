#include "bench/dtypes.h"

#include <array>
#include <stdexcept>
#include <utility>

#include "common/errors.h"
#include "config/text.h"

namespace vrwkv::bench {
namespace {

constexpr std::array<std::pair<const char*, at::ScalarType>, 4> kTensorDtypes{
    {{"float64", at::kDouble}, {"float32", at::kFloat}, {"float16", at::kHalf}, {"bfloat16", at::kBFloat16}}};

constexpr std::array<std::pair<const char*, config::Dtype>, 3> kNetworkDtypes{
    {{"float64", config::Dtype::float64}, {"float32", config::Dtype::float32}, {"bfloat16", config::Dtype::bfloat16}}};

auto find_dtype(const auto& dtypes, const std::string& name) {
  std::string known;
  for (const auto& [text, dtype] : dtypes) {
    if (name == text) return dtype;
    known += (known.empty() ? "" : ", ") + std::string(text);
  }
  throw UsageError("--dtype: expected one of " + known + "; got '" + config::printable(name) + "'");
}

}  // namespace

at::ScalarType parse_tensor_dtype(const std::string& name) { return find_dtype(kTensorDtypes, name); }

config::Dtype parse_network_dtype(const std::string& name) { return find_dtype(kNetworkDtypes, name); }

std::string tensor_dtype_name(at::ScalarType dtype) {
  for (const auto& [text, known] : kTensorDtypes) {
    if (dtype == known) return text;
  }
  throw std::logic_error(std::string("tensor_dtype_name: not measured: ") + c10::toString(dtype));
}

std::string default_dtype(at::Device device) { return device.is_cpu() ? "float32" : "bfloat16"; }

}  // namespace vrwkv::bench

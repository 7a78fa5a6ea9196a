#include "eval/precision.h"

namespace vrwkv::eval {

at::ScalarType weights_dtype(config::Dtype dtype) { return dtype == config::Dtype::float64 ? at::kDouble : at::kFloat; }

PrecisionGuard::PrecisionGuard(const Precision& precision) {
  if (precision.dtype == config::Dtype::bfloat16) autocast_.emplace(precision.device.type(), at::kBFloat16);
  if (precision.dtype == config::Dtype::float16) autocast_.emplace(precision.device.type(), at::kHalf);
}

}  // namespace vrwkv::eval

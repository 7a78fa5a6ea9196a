#include "tests/support/assert_close.h"

#include <ATen/ATen.h>

#include <limits>

namespace vrwkv::testing {

double relative_error(const at::Tensor& expected, const at::Tensor& actual) {
  const at::Tensor x = expected.detach().to(at::kCPU, at::kDouble);
  const at::Tensor y = actual.detach().to(at::kCPU, at::kDouble);
  if (!y.isfinite().all().item<bool>()) return std::numeric_limits<double>::infinity();
  const double norm = x.norm().item<double>();
  const double difference = (y - x).norm().item<double>();
  return norm > 0 ? difference / norm : difference;
}

::testing::AssertionResult close(const std::string& name, const at::Tensor& expected, const at::Tensor& actual,
                                 double tolerance, double absolute) {
  if (!actual.defined()) return ::testing::AssertionFailure() << name << " is undefined";
  if (expected.sizes() != actual.sizes()) {
    return ::testing::AssertionFailure() << name << ": expected shape " << expected.sizes() << ", got "
                                         << actual.sizes();
  }
  const double norm = expected.detach().to(at::kCPU, at::kDouble).norm().item<double>();
  const double error = relative_error(expected, actual);
  const bool vanishing = norm < absolute;
  if (vanishing ? error * (norm > 0 ? norm : 1.0) <= absolute : error <= tolerance)
    return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << name << ": relative error " << error << " is above " << tolerance << " (norm "
                                       << norm << ", shape " << expected.sizes() << ")";
}

}  // namespace vrwkv::testing

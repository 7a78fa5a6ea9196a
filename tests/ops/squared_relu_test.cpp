#include "ops/squared_relu.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "tests/support/assert_close.h"
#include "tests/support/devices.h"

namespace vrwkv::testing {
namespace {

class SquaredRelu : public ::testing::TestWithParam<at::Device> {};

INSTANTIATE_TEST_SUITE_P(Devices, SquaredRelu, ::testing::ValuesIn(devices()), device_name);

TEST_P(SquaredRelu, MatchesTheFormula) {
  at::manual_seed(1);
  struct Precision {
    at::ScalarType dtype;
    double tolerance;
  };
  for (const auto& [dtype, tolerance] :
       {Precision{at::kDouble, 1e-14}, {at::kFloat, 1e-6}, {at::kBFloat16, 1e-2}, {at::kHalf, 1e-3}}) {
    for (const at::IntArrayRef sizes : std::vector<std::vector<int64_t>>{{1}, {0}, {7, 3}, {2, 5, 1024}, {100003}}) {
      SCOPED_TRACE(c10::str(dtype, " ", sizes));
      const at::Tensor x = (at::randn(sizes, at::kDouble) * 3).to(GetParam(), dtype).requires_grad_();
      const at::Tensor gy = at::randn(sizes, at::kDouble).to(GetParam(), dtype);
      const at::Tensor y = ops::squared_relu(x);
      const at::Tensor gx = torch::autograd::grad({y}, {x}, {gy})[0];
      const at::Tensor positive = x.detach().to(at::kCPU, at::kDouble).clamp_min(0);
      EXPECT_EQ(y.scalar_type(), dtype);
      EXPECT_TRUE(close("y", positive * positive, y, tolerance));
      EXPECT_TRUE(close("gx", 2 * positive * gy.to(at::kCPU, at::kDouble), gx, tolerance));
    }
  }
}

TEST_P(SquaredRelu, KeepsSmallHalfGradientsAndNaN) {
  const auto options = at::TensorOptions(at::kHalf).device(GetParam());
  const at::Tensor x = at::tensor({1e-4, 300.0, -1.0, 0.0}, at::kDouble).to(options).requires_grad_();
  const at::Tensor gx = torch::autograd::grad({ops::squared_relu(x).sum()}, {x})[0];
  EXPECT_TRUE(close("gx", 2 * x.detach().clamp_min(0).to(at::kDouble), gx, 1e-3));  // though 300^2 is infinite
  const at::Tensor nan = at::full({3}, std::numeric_limits<float>::quiet_NaN(), options.dtype(at::kFloat));
  EXPECT_TRUE(ops::squared_relu(nan).isnan().all().item<bool>());
}

TEST_P(SquaredRelu, TakesAnyMemoryLayout) {
  const at::Tensor x = at::randn({4, 6, 5}, at::TensorOptions(at::kFloat).device(GetParam())).transpose(0, 2);
  EXPECT_TRUE(at::equal(ops::squared_relu(x), at::relu(x).square()));
}

TEST_P(SquaredRelu, RefusesIntegers) {
  EXPECT_THROW(ops::squared_relu(at::ones({2}, at::TensorOptions(at::kLong).device(GetParam()))), c10::Error);
}

}  // namespace
}  // namespace vrwkv::testing

#include "ops/q_shift.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "tests/support/devices.h"
#include "tests/support/q_shift_reference.h"

namespace vrwkv::testing {
namespace {

class QShift : public ::testing::TestWithParam<at::Device> {};

INSTANTIATE_TEST_SUITE_P(Devices, QShift, ::testing::ValuesIn(devices()), device_name);

TEST_P(QShift, EqualsItsDefinitionForEveryShapeAndDtype) {
  at::manual_seed(1);
  for (const auto dtype : {at::kDouble, at::kFloat, at::kBFloat16, at::kHalf}) {
    for (const auto& [height, width] : {std::pair<int64_t, int64_t>{1, 1}, {1, 7}, {6, 1}, {3, 5}, {14, 14}}) {
      for (const int64_t channels : {1, 2, 3, 4, 7, 64}) {
        SCOPED_TRACE(c10::str(dtype, " ", height, " x ", width, " x ", channels));
        const at::Tensor x = at::randn({2, height * width, channels}).to(GetParam(), dtype);
        EXPECT_TRUE(at::equal(ops::q_shift(x, height, width), q_shift_reference(x, height, width, channels)));
      }
      for (const auto& [channels, group] : {std::pair<int64_t, int64_t>{6, 3}, {7, 1}, {20, 5}, {192, 64}}) {
        SCOPED_TRACE(c10::str(dtype, " ", height, " x ", width, " x ", channels, " in groups of ", group));
        const at::Tensor x = at::randn({2, height * width, channels}).to(GetParam(), dtype);
        EXPECT_TRUE(at::equal(ops::q_shift(x, height, width, group), q_shift_reference(x, height, width, group)));
      }
    }
  }
}

TEST_P(QShift, ItsGradientIsItsTranspose) {
  at::manual_seed(2);
  const auto options = at::TensorOptions(at::kDouble).device(GetParam());
  const at::Tensor x = at::randn({2, 20, 9}, options).requires_grad_();
  const at::Tensor gy = at::randn({2, 20, 9}, options);
  for (const int64_t group : {9, 3}) {
    const at::Tensor y = ops::q_shift(x, 4, 5, group);
    const at::Tensor gx = torch::autograd::grad({y}, {x}, {gy})[0];
    // <shift(z), gy> = <z, gx> for every z.
    const at::Tensor z = at::randn_like(x).detach();
    EXPECT_NEAR((ops::q_shift(z, 4, 5, group) * gy).sum().item<double>(), (z * gx).sum().item<double>(), 1e-10);
  }
}

TEST_P(QShift, TakesStridedAndEmptyInputs) {
  const auto options = at::TensorOptions(at::kFloat).device(GetParam());
  const at::Tensor x = at::randn({2, 8, 12}, options).transpose(1, 2).contiguous().transpose(1, 2);
  EXPECT_TRUE(at::equal(ops::q_shift(x, 2, 4), q_shift_reference(x.contiguous(), 2, 4, 12)));
  EXPECT_EQ(ops::q_shift(at::empty({0, 6, 4}, options), 2, 3).sizes(), (at::IntArrayRef{0, 6, 4}));
}

TEST_P(QShift, RefusesAGridThatDoesNotFit) {
  const at::Tensor x = at::zeros({1, 12, 4}, at::TensorOptions(at::kFloat).device(GetParam()));
  EXPECT_THROW(ops::q_shift(x, 3, 5), c10::Error);
  EXPECT_THROW(ops::q_shift(x, -3, -4), c10::Error);
  EXPECT_THROW(ops::q_shift(x[0], 3, 4), c10::Error);
  EXPECT_THROW(ops::q_shift(x.to(at::kLong), 3, 4), c10::Error);
  EXPECT_THROW(ops::q_shift(x, 3, 4, 3), c10::Error);
  EXPECT_THROW(ops::q_shift(x, 3, 4, 0), c10::Error);
}

}  // namespace
}  // namespace vrwkv::testing

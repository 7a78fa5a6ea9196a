#include "ops/token_mean.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "tests/support/assert_close.h"
#include "tests/support/devices.h"

namespace vrwkv::testing {
namespace {

class TokenMean : public ::testing::TestWithParam<at::Device> {};

INSTANTIATE_TEST_SUITE_P(Devices, TokenMean, ::testing::ValuesIn(devices()), device_name);

TEST_P(TokenMean, IsTheMeanAndItsGradient) {
  at::manual_seed(1);
  const std::vector<std::vector<int64_t>> shapes{{1, 1, 8},    {2, 31, 192}, {3, 197, 24}, {2, 4099, 40},
                                                 {5, 196, 13}, {1, 9, 5},    {0, 4, 8},    {300, 7, 16}};
  for (const auto& sizes : shapes) {
    for (const auto dtype : {at::kDouble, at::kFloat, at::kBFloat16, at::kHalf}) {
      SCOPED_TRACE(c10::str(at::IntArrayRef(sizes), " ", dtype));
      const at::Tensor x = at::randn(sizes, at::kDouble).to(GetParam(), dtype).requires_grad_();
      const at::Tensor mean = ops::token_mean(x);
      EXPECT_EQ(mean.scalar_type(), dtype == at::kDouble ? at::kDouble : at::kFloat);
      EXPECT_TRUE(close("mean", x.detach().to(at::kCPU, at::kDouble).mean({1}), mean.detach(),
                        dtype == at::kDouble ? 1e-14 : 1e-6));
      EXPECT_TRUE(at::equal(mean, ops::token_mean(x)));
      const at::Tensor gradient = at::randn_like(mean.detach());
      mean.backward(gradient);
      const at::Tensor share = (gradient.to(at::kCPU, at::kDouble) / static_cast<double>(sizes[1])).unsqueeze(1);
      EXPECT_EQ(x.grad().scalar_type(), dtype);
      EXPECT_TRUE(close("gradient", share.expand(sizes), x.grad(), dtype == at::kDouble ? 1e-14 : 4e-3));
    }
  }
}

TEST_P(TokenMean, TakesTokensInAnyLayout) {
  at::manual_seed(2);
  const at::Tensor x = at::randn({2, 16, 9}, at::TensorOptions(GetParam()).dtype(at::kBFloat16)).transpose(1, 2);
  EXPECT_TRUE(close("mean", x.to(at::kCPU, at::kDouble).mean({1}), ops::token_mean(x), 1e-6));
}

TEST_P(TokenMean, NamesWhatIsWrong) {
  EXPECT_THROW(ops::token_mean(at::ones({3, 4}, GetParam())), c10::Error);
  EXPECT_THROW(ops::token_mean(at::ones({3, 4, 8}, at::TensorOptions(GetParam()).dtype(at::kLong))), c10::Error);
}

}  // namespace
}  // namespace vrwkv::testing

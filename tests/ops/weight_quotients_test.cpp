#include "ops/weight_quotients.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "ops/weight_casts.h"
#include "tests/support/assert_close.h"
#include "tests/support/devices.h"

namespace vrwkv::testing {
namespace {

using ops::divide_weights;
using ops::divided_weights;
using ops::WeightCastScope;

class WeightQuotients : public ::testing::TestWithParam<at::Device> {
 protected:
  WeightQuotients() {
    at::manual_seed(1);
    first = at::randn({192}, GetParam()).requires_grad_();
    second = at::randn({192}, GetParam()).requires_grad_();
  }

  void expect_quotients(double divisor) const {
    const auto [a, b] = divided_weights(first, second, divisor);
    for (const auto& [weight, quotient] : {std::pair{first, a}, {second, b}}) {
      EXPECT_TRUE(close("quotient", weight.detach().to(at::kCPU, at::kDouble) / divisor, quotient.detach(), 1e-7));
    }
  }

  at::Tensor first, second;
};

INSTANTIATE_TEST_SUITE_P(Devices, WeightQuotients, ::testing::ValuesIn(devices()), device_name);

TEST_P(WeightQuotients, AreThoseOfTheWeightsAsTheyAre) {
  expect_quotients(196);
  const WeightCastScope scope;
  divide_weights({first, second}, 196);
  expect_quotients(196);
  {
    const at::NoGradGuard no_grad;
    EXPECT_TRUE(
        std::get<0>(divided_weights(first, second, 196)).is_same(std::get<0>(divided_weights(first, second, 196))));
    first.mul_(3);
  }
  expect_quotients(196);
  divide_weights({first, second}, 196);
  expect_quotients(196);
  expect_quotients(49);  // Is not what is kept.
  divide_weights({first, second}, 49);
  expect_quotients(49);
  expect_quotients(196);
}

TEST_P(WeightQuotients, AreForgottenWithTheOutermostScope) {
  const at::NoGradGuard no_grad;
  const auto are_kept = [&] {
    return std::get<0>(divided_weights(first, second, 7)).is_same(std::get<0>(divided_weights(first, second, 7)));
  };
  divide_weights({first, second}, 7);
  EXPECT_FALSE(are_kept());
  {
    const WeightCastScope outer;
    {
      const WeightCastScope inner;
      divide_weights({first, second}, 7);
    }
    EXPECT_TRUE(are_kept());
  }
  EXPECT_FALSE(are_kept());
}

TEST_P(WeightQuotients, PassGradientsOn) {
  const at::Tensor of_first = at::randn_like(first.detach()), of_second = at::randn_like(first.detach());
  std::vector<at::Tensor> results;
  for (const bool kept : {false, true}) {
    const WeightCastScope scope;
    if (kept) divide_weights({first, second}, 196);
    const auto [a, b] = divided_weights(first, second, 196);
    (a * of_first + b * of_second).sum().backward();
    for (at::Tensor* weight : {&first, &second}) {
      results.push_back(weight->grad().clone());
      weight->mutable_grad() = at::Tensor();
    }
  }
  EXPECT_TRUE(close("first", of_first / 196, results[2], 1e-6));
  EXPECT_TRUE(close("first", results[0], results[2], 1e-6));
  EXPECT_TRUE(close("second", results[1], results[3], 1e-6));
}

}  // namespace
}  // namespace vrwkv::testing

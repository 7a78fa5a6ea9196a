#include "ops/weight_casts.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <thread>

#include "tests/support/devices.h"

namespace vrwkv::testing {
namespace {

using ops::cast_weight;
using ops::cast_weights;
using ops::kept_cast;

class WeightCasts : public ::testing::TestWithParam<at::Device> {
 protected:
  static at::Tensor weight(at::IntArrayRef sizes) {
    return at::randn(sizes, at::TensorOptions(GetParam())).requires_grad_();
  }

  static bool is_kept(const at::Tensor& weight) { return kept_cast(weight, at::kBFloat16).defined(); }
};

INSTANTIATE_TEST_SUITE_P(Devices, WeightCasts, ::testing::ValuesIn(devices()), device_name);

TEST_P(WeightCasts, AreTheWeightsInTheOtherDtype) {
  at::manual_seed(1);
  for (const auto dtype : {at::kBFloat16, at::kHalf}) {
    const ops::WeightCastScope scope;
    // Plain and frozen ones, other layouts, and more than fit into one launch.
    std::vector<at::Tensor> weights{weight({3, 5}),
                                    weight({1}),
                                    weight({0, 4}),
                                    weight({192, 768}).detach(),
                                    weight({7, 4}).detach().t(),
                                    weight({9, 8}).detach().slice(1, 1, 6)};
    for (int64_t i = 1; i < 150; ++i) weights.push_back(weight({i, 3}));
    cast_weights(weights, dtype);
    for (const at::Tensor& weight : weights) {
      const at::Tensor cast = kept_cast(weight, dtype);
      ASSERT_TRUE(cast.defined());
      EXPECT_FALSE(cast.requires_grad());
      EXPECT_TRUE(at::equal(cast, weight.to(dtype)));
      EXPECT_TRUE(cast.is_same(cast_weight(weight, dtype)));
    }
  }
}

TEST_P(WeightCasts, AreKeptUntilTheOutermostScopeEnds) {
  const at::Tensor early = weight({4, 4}), late = weight({4, 4});
  {
    const ops::WeightCastScope outer;
    cast_weights(early, at::kBFloat16);
    {
      const ops::WeightCastScope inner;
      cast_weight(late, at::kBFloat16);
    }
    EXPECT_TRUE(is_kept(early));
    EXPECT_TRUE(is_kept(late));
    EXPECT_FALSE(kept_cast(early, at::kHalf).defined());
  }
  EXPECT_FALSE(is_kept(early));
  cast_weights(early, at::kBFloat16);
  EXPECT_FALSE(is_kept(early));
  EXPECT_TRUE(at::equal(cast_weight(early, at::kBFloat16), early.to(at::kBFloat16)));
  EXPECT_FALSE(is_kept(early));
}

TEST_P(WeightCasts, AreNeverOfFormerValues) {
  const ops::WeightCastScope scope;
  at::Tensor changed = weight({5, 5});
  const auto expect_current = [&] {
    EXPECT_FALSE(is_kept(changed));
    EXPECT_TRUE(at::equal(cast_weight(changed, at::kBFloat16), changed.to(at::kBFloat16)));
    EXPECT_TRUE(is_kept(changed));
  };
  cast_weights(changed, at::kBFloat16);
  {
    const at::NoGradGuard no_grad;
    changed.add_(1);  // As an optimizer does.
    expect_current();
    changed.copy_(at::randn({5, 5}));  // As a loaded checkpoint does.
    expect_current();
    at::_foreach_mul_({changed}, 2);
    expect_current();
  }
  changed.set_data(at::randn({5, 5}, at::TensorOptions(GetParam())));  // As Module::to() does.
  expect_current();
  // Another tensor where one has been.
  for (int i = 0; i < 20; ++i) {
    at::Tensor passing = weight({5, 5});
    EXPECT_FALSE(is_kept(passing));
    EXPECT_TRUE(at::equal(cast_weight(passing, at::kBFloat16), passing.to(at::kBFloat16)));
  }
}

TEST_P(WeightCasts, OfTheInferenceModeAreNotKept) {
  const ops::WeightCastScope scope;
  const c10::InferenceMode inference;
  const at::Tensor weight = at::randn({3, 3}, at::TensorOptions(GetParam()));
  EXPECT_TRUE(at::equal(cast_weight(weight, at::kBFloat16), weight.to(at::kBFloat16)));
  EXPECT_FALSE(is_kept(weight));
}

TEST_P(WeightCasts, BelongToTheirThread) {
  const at::Tensor shared = weight({4, 4});
  const ops::WeightCastScope scope;
  cast_weights(shared, at::kBFloat16);
  std::thread([&] {
    EXPECT_FALSE(is_kept(shared));
    const ops::WeightCastScope other;
    EXPECT_TRUE(at::equal(cast_weight(shared, at::kBFloat16), shared.to(at::kBFloat16)));
  }).join();
  EXPECT_TRUE(is_kept(shared));
}

}  // namespace
}  // namespace vrwkv::testing

#include "ops/weight_packs.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "ops/squared_relu_mlp.h"
#include "ops/token_shift_linear.h"
#include "ops/weight_casts.h"
#include "tests/support/devices.h"
#include "vrwkv/autocast.h"

namespace vrwkv::testing {
namespace {

using ops::kept_pack;
using ops::pack_weights;
using ops::packed_weights;
using ops::PackOrder;
using ops::WeightCastScope;
using Tensors = std::vector<at::Tensor>;

/// An order, and shapes of a layer's weights that have a kernel.
struct PackCase {
  std::string name;
  PackOrder order;
  std::vector<std::vector<int64_t>> shapes;
};

std::vector<PackCase> cases() {
  const std::vector<std::vector<int64_t>> squares(3, {192, 192});
  return {{"shift_linear_gradient", ops::kShiftLinearGradientOrder, squares},
          {"channel_mix", ops::kChannelMixOrder, {{128, 192}, {192, 128}, {192, 192}}},
          {"linear_residual_channel_mix",
           ops::kLinearResidualChannelMixOrder,
           {{128, 192}, {192, 128}, {192, 192}, {192, 192}}},
          {"hidden", ops::kHiddenOrder, {{128, 192}}},
          {"hidden_gradient", ops::kHiddenGradientOrder, {{192, 128}}}};
}

/// Weights of many layers; more than one launch takes.
class WeightPacks : public ::testing::TestWithParam<PackCase> {
 protected:
  static constexpr size_t kLayers = 520;

  void SetUp() override {
    if (!devices().back().is_cuda()) GTEST_SKIP() << "no CUDA device";
    at::manual_seed(1);
    for (size_t layer = 0; layer < kLayers; ++layer) {
      for (const auto& shape : GetParam().shapes) {
        weights.push_back(at::randn(shape, at::TensorOptions(devices().back()).dtype(at::kFloat)));
      }
    }
    const WeightCastScope scope;
    pack_weights(order, weights);
    if (!kept_pack(order, of_layer(0)).defined()) GTEST_SKIP() << "this GPU has no kernels that read packed weights";
  }

  at::TensorList of_layer(size_t layer) const {
    return at::TensorList(weights).slice(layer * order.weights, order.weights);
  }

  PackOrder order = GetParam().order;
  Tensors weights;
};

INSTANTIATE_TEST_SUITE_P(Orders, WeightPacks, ::testing::ValuesIn(cases()),
                         [](const auto& one) { return one.param.name + "_cuda"; });

TEST_P(WeightPacks, OfManyLayersAreThoseOfEach) {
  const WeightCastScope scope;
  pack_weights(order, weights);
  Tensors together;
  for (size_t layer = 0; layer < kLayers; ++layer) together.push_back(kept_pack(order, of_layer(layer)));
  for (at::Tensor& weight : weights) weight = weight.clone();  // Others, of which nothing is kept.
  for (size_t layer = 0; layer < kLayers; ++layer) {
    ASSERT_FALSE(kept_pack(order, of_layer(layer)).defined());
    ASSERT_TRUE(at::equal(together[layer], packed_weights(order, of_layer(layer)))) << "layer " << layer;
  }
}

TEST_P(WeightPacks, AreOfTheWeightsAsTheyAre) {
  const WeightCastScope scope;
  const at::Tensor before = packed_weights(order, of_layer(0));
  EXPECT_TRUE(before.is_same(packed_weights(order, of_layer(0))));
  weights[order.weights - 1].neg_();
  EXPECT_FALSE(kept_pack(order, of_layer(0)).defined());
  EXPECT_FALSE(at::equal(before, packed_weights(order, of_layer(0))));
}

TEST_P(WeightPacks, AreForgottenWithTheOutermostScope) {
  {
    const WeightCastScope outer;
    {
      const WeightCastScope inner;
      pack_weights(order, weights);
    }
    EXPECT_TRUE(kept_pack(order, of_layer(kLayers - 1)).defined());
  }
  EXPECT_FALSE(kept_pack(order, of_layer(kLayers - 1)).defined());
  pack_weights(order, weights);
  EXPECT_FALSE(kept_pack(order, of_layer(0)).defined());
}

TEST_P(WeightPacks, RefuseWhatNoKernelReads) {
  const WeightCastScope scope;
  const Tensors odd(order.weights, at::zeros({7, 5}, devices().back()));
  pack_weights(order, odd);
  EXPECT_FALSE(kept_pack(order, odd).defined());
  try {
    packed_weights(order, odd);
    FAIL() << "packed";
  } catch (const c10::Error& error) {
    EXPECT_NE(std::string(error.what()).find("no kernel for weights of shape [7, 5]"), std::string::npos)
        << error.what();
  }
}

/// Results and gradients of the operators that read packed weights, in `scope` or not.
class PackedOperators : public ::testing::TestWithParam<at::Device> {
 protected:
  PackedOperators() { at::manual_seed(2); }

  at::Tensor parameter(std::vector<int64_t> shape) const {
    return at::randn(shape, at::TensorOptions(GetParam()).dtype(at::kFloat)).requires_grad_();
  }
};

INSTANTIATE_TEST_SUITE_P(Devices, PackedOperators, ::testing::ValuesIn(devices()), device_name);

TEST_P(PackedOperators, AreTheSameWithWeightsPackedBeforehand) {
  const at::Tensor x = at::randn({3, 35, 192}, GetParam()).to(at::kBFloat16).requires_grad_();
  const Tensors mixes{parameter({192}), parameter({192}), parameter({192})};
  const Tensors squares{parameter({192, 192}), parameter({192, 192}), parameter({192, 192})};
  const at::Tensor key = parameter({768, 192}), value = parameter({192, 768});
  std::vector<Tensors> results;
  for (const bool beforehand : {false, true}) {
    const AutocastGuard autocast(GetParam().type(), at::kBFloat16);
    if (beforehand && GetParam().is_cuda()) {
      ops::cast_weights(squares, at::kBFloat16);
      pack_weights(ops::kShiftLinearGradientOrder, squares);
      pack_weights(ops::kHiddenOrder, key);
      pack_weights(ops::kHiddenGradientOrder, value);
    }
    Tensors outputs = ops::token_shift_linear(x, mixes, squares, {}, {}, 5, 7);
    outputs.push_back(ops::squared_relu_mlp(x, key, value));
    at::Tensor loss = at::zeros({}, GetParam());
    for (const at::Tensor& output : outputs) loss = loss + output.to(at::kFloat).square().sum();
    loss.backward();
    Tensors of_run = outputs;
    for (const Tensors& parameters : {mixes, squares, Tensors{x, key, value}}) {
      for (const at::Tensor& one : parameters) {
        of_run.push_back(one.grad().clone());
        one.mutable_grad() = at::Tensor();
      }
    }
    results.push_back(of_run);
  }
  for (size_t i = 0; i < results[0].size(); ++i) EXPECT_TRUE(at::equal(results[0][i], results[1][i])) << i;
}

}  // namespace
}  // namespace vrwkv::testing

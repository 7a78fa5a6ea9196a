#include "ops/bi_wkv_published.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "ops/bi_wkv.h"
#include "tests/support/assert_close.h"
#include "tests/support/devices.h"
#include "tests/support/golden.h"
#include "vrwkv/autocast.h"

namespace vrwkv::testing {
namespace {

/// The closed form, term by term in O(T^2): the weight of every pair of tokens.
at::Tensor reference(const at::Tensor& w, const at::Tensor& u, const at::Tensor& k, const at::Tensor& v) {
  const int64_t tokens = k.size(1), length = (tokens + 31) / 32;
  std::vector<at::Tensor> outputs;
  for (int64_t t = 0; t < tokens; ++t) {
    const int64_t first = t / length * length;
    at::Tensor numerator = at::zeros_like(k.select(1, 0)), denominator = at::zeros_like(numerator);
    for (int64_t i = 0; i < tokens; ++i) {
      const at::Tensor key = k.select(1, i);
      const double distance = std::abs(static_cast<double>(t - i));
      at::Tensor weight = (key - w * (i >= first && i < t ? distance - 1 : distance)).exp();
      if (i == t) weight = (u + key).exp();
      if (i > first && i <= t) weight = weight + (key + w * distance).exp() * (1 - w.exp());
      numerator = numerator + weight * v.select(1, i);
      denominator = denominator + weight;
    }
    outputs.push_back(numerator / denominator);
  }
  return at::stack(outputs, 1);
}

class BiWkvPublished : public ::testing::TestWithParam<at::Device> {};

INSTANTIATE_TEST_SUITE_P(Devices, BiWkvPublished, ::testing::ValuesIn(devices()), device_name);

TEST_P(BiWkvPublished, MatchesTheClosedFormAndItsGradients) {
  at::manual_seed(1);
  const auto options = at::TensorOptions(at::kDouble).device(GetParam());
  for (const int64_t tokens : {1, 2, 31, 32, 33, 50, 64, 65, 97}) {
    SCOPED_TRACE(tokens);
    const at::Tensor decay = at::randn({5}, options) * 3 / tokens, first = at::randn({5}, options);
    std::vector<at::Tensor> inputs{decay, first, at::randn({2, tokens, 5}, options) * 2,
                                   at::randn({2, tokens, 5}, options)};
    for (at::Tensor& input : inputs) input.requires_grad_();
    const at::Tensor gy = at::randn({2, tokens, 5}, options);
    const at::Tensor expected = reference(inputs[0], inputs[1], inputs[2], inputs[3]);
    const at::Tensor actual = ops::bi_wkv_published(inputs[0], inputs[1], inputs[2], inputs[3]);
    EXPECT_TRUE(close("y", expected, actual, 1e-12));
    const auto true_gradients = torch::autograd::grad({expected}, inputs, {gy}, /*retain_graph=*/false,
                                                      /*create_graph=*/false, /*allow_unused=*/true);
    const auto gradients = torch::autograd::grad({actual}, inputs, {gy});
    for (size_t i = 0; i < 4; ++i) {
      // The only token of T = 1 has no distance to another.
      const at::Tensor truth = true_gradients[i].defined() ? true_gradients[i] : at::zeros_like(inputs[i]);
      EXPECT_TRUE(close(c10::str("gradient ", i), truth, gradients[i], 1e-10, 1e-12));
    }
  }
}

TEST_P(BiWkvPublished, MatchesThePublishedKernel) {
  const Safetensors golden = read_golden("biwkv.safetensors");
  int cases = 0;
  for (const auto& [name, y] : golden.tensors) {
    if (!name.ends_with(".y_official") && !name.ends_with("/y_official")) continue;
    const std::string prefix = name.substr(0, name.size() - std::string("y_official").size());
    const auto scale = std::stod(prefix.substr(prefix.rfind("_s") + 2));
    if (scale >= 20) continue;  // The kernel's own sums overflow there.
    SCOPED_TRACE(name);
    ++cases;
    const auto input = [&](const char* part) { return golden.tensors.at(prefix + part).to(GetParam()); };
    const at::Tensor actual = ops::bi_wkv_published(input("w"), input("u"), input("k"), input("v"));
    EXPECT_EQ(actual.scalar_type(), at::kFloat);
    EXPECT_TRUE(close("y", y, actual, 1e-5));
    if (y.size(1) > 40) {  // It is another formula than the paper's, not only another rounding.
      EXPECT_FALSE(close("y", y, ops::bi_wkv(input("w"), input("u"), input("k"), input("v")), 1e-4));
    }
  }
  EXPECT_GT(cases, 3);
}

TEST_P(BiWkvPublished, KeepsTheDtypeOfItsKeys) {
  at::manual_seed(2);
  const auto options = at::TensorOptions(GetParam());
  const at::Tensor w = at::randn({4}, options) * 0.1, u = at::randn({4}, options);
  const at::Tensor k = at::randn({2, 40, 4}, options), v = at::randn({2, 40, 4}, options);
  const at::Tensor expected = ops::bi_wkv_published(w, u, k, v);
  for (const auto dtype : {at::kBFloat16, at::kHalf}) {
    const AutocastGuard autocast(GetParam().type(), dtype);
    const at::Tensor y = ops::bi_wkv_published(w, u, k.to(dtype), v.to(dtype));
    EXPECT_EQ(y.scalar_type(), dtype);
    EXPECT_TRUE(close("y", expected, y, 2e-2));
  }
  EXPECT_EQ(ops::bi_wkv_published(w, u, k.slice(0, 0, 0), v.slice(0, 0, 0)).sizes(), (at::IntArrayRef{0, 40, 4}));
  EXPECT_THROW(ops::bi_wkv_published(w, u, k, v.slice(1, 1)), c10::Error);
}

}  // namespace
}  // namespace vrwkv::testing

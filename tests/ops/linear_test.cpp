#include "ops/linear.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <optional>

#include "ops/weight_casts.h"
#include "tests/support/assert_close.h"
#include "tests/support/devices.h"
#include "vrwkv/autocast.h"

namespace vrwkv::testing {
namespace {

/// Sizes of x, whose last one are the channels, and features of the result: square, prime, single, long.
struct Size {
  std::vector<int64_t> x;
  int64_t features;
};

const std::vector<Size>& sizes() {
  static const std::vector<Size> all{{{2, 9, 16}, 32},  {{1, 1, 1}, 1},      {{3, 7, 13}, 5},     {{11, 8}, 8},
                                     {{2, 3, 5, 7}, 9}, {{4, 196, 192}, 96}, {{1, 4099, 64}, 192}};
  return all;
}

/// Dtypes of x and of the weight, and that of autocast if it is on.
struct Precision {
  at::ScalarType x, weight;
  std::optional<at::ScalarType> autocast;

  at::ScalarType product() const { return autocast.value_or(x); }
  bool narrows() const { return product() != weight; }
};

const std::vector<Precision>& precisions() {
  static const std::vector<Precision> all{{at::kDouble, at::kDouble, {}},
                                          {at::kFloat, at::kFloat, {}},
                                          {at::kBFloat16, at::kBFloat16, {}},
                                          {at::kBFloat16, at::kFloat, {}},
                                          {at::kHalf, at::kFloat, {}},
                                          {at::kBFloat16, at::kFloat, at::kBFloat16},
                                          {at::kFloat, at::kFloat, at::kBFloat16},
                                          {at::kHalf, at::kFloat, at::kHalf},
                                          {at::kFloat, at::kFloat, at::kHalf}};
  return all;
}

double tolerance(at::ScalarType dtype) { return dtype == at::kDouble ? 1e-13 : dtype == at::kFloat ? 1e-5 : 1e-2; }

at::Tensor wide(const at::Tensor& tensor) { return tensor.to(at::kCPU, at::kDouble); }

class Linear : public ::testing::TestWithParam<at::Device> {
 protected:
  static at::Tensor random(at::IntArrayRef sizes, at::ScalarType dtype) {
    return at::randn(sizes, at::kDouble).to(GetParam(), dtype);
  }

  /// ops::linear in a precision.
  static at::Tensor run(const at::Tensor& x, const at::Tensor& weight, const Precision& precision) {
    std::optional<AutocastGuard> autocast;
    if (precision.autocast) autocast.emplace(GetParam().type(), *precision.autocast);
    return ops::linear(x, weight);
  }
};

INSTANTIATE_TEST_SUITE_P(Devices, Linear, ::testing::ValuesIn(devices()), device_name);

TEST_P(Linear, MatchesTheFormulaWithItsGradients) {
  at::manual_seed(1);
  for (const Size& size : sizes()) {
    for (const Precision& precision : precisions()) {
      SCOPED_TRACE(c10::str(size.x, " to ", size.features, ": ", precision.x, " ", precision.weight, " ",
                            precision.autocast.value_or(at::ScalarType::Undefined)));
      const at::Tensor x = random(size.x, precision.x).requires_grad_();
      const at::Tensor weight = random({size.features, size.x.back()}, precision.weight).requires_grad_();
      const at::Tensor y = run(x, weight, precision);
      ASSERT_EQ(y.scalar_type(), precision.product());
      const at::Tensor gy = random(y.sizes(), y.scalar_type());
      const auto gradients = torch::autograd::grad({y}, {x, weight}, {gy});

      // Of what is multiplied in truth.
      const at::Tensor narrow_x = wide(x.detach().to(precision.product()));
      const at::Tensor narrow_weight = wide(weight.detach().to(precision.product()));
      const at::Tensor rows = narrow_x.flatten(0, -2), gy_rows = wide(gy).flatten(0, -2);
      EXPECT_TRUE(close("y", at::matmul(narrow_x, narrow_weight.t()), y, tolerance(y.scalar_type())));
      EXPECT_TRUE(close("gx", at::matmul(wide(gy), narrow_weight), gradients[0], tolerance(y.scalar_type())));
      EXPECT_EQ(gradients[1].scalar_type(), precision.weight);
      // On CUDA a float32 weight's gradient has errors of float32 sums alone, 100 times below a rounding to bfloat16.
      const bool exact = GetParam().is_cuda() && precision.narrows();
      EXPECT_TRUE(close("gweight", at::mm(gy_rows.t(), rows), gradients[1],
                        exact ? 2e-5 : tolerance(precision.narrows() ? y.scalar_type() : precision.weight)));
    }
  }
}

TEST_P(Linear, GivesWhatItGivesWithoutGradients) {
  at::manual_seed(2);
  for (const Precision& precision : precisions()) {
    const at::Tensor x = random({3, 20, 64}, precision.x);
    const at::Tensor weight = random({48, 64}, precision.weight).requires_grad_();
    const at::Tensor y = run(x, weight, precision);
    const at::NoGradGuard no_grad;
    EXPECT_TRUE(at::equal(y, run(x, weight, precision)));
  }
}

TEST_P(Linear, GivesEqualBitsInEveryRun) {
  at::manual_seed(3);
  const Precision precision{at::kBFloat16, at::kFloat, at::kBFloat16};
  const at::Tensor x = random({8, 1024, 192}, at::kBFloat16).requires_grad_();
  const at::Tensor weight = random({192, 192}, at::kFloat).requires_grad_();
  const at::Tensor gy = random({8, 1024, 192}, at::kBFloat16);
  const auto gradients = [&] { return torch::autograd::grad({run(x, weight, precision)}, {x, weight}, {gy}); };
  const auto first = gradients(), second = gradients();
  EXPECT_TRUE(at::equal(first[0], second[0]));
  EXPECT_TRUE(at::equal(first[1], second[1]));
}

TEST_P(Linear, OfManyAreThoseOfEach) {
  at::manual_seed(10);
  for (const Precision& precision : precisions()) {
    for (const bool beside : {false, true}) {
      SCOPED_TRACE(c10::str(precision.x, " ", precision.weight, " ",
                            precision.autocast.value_or(at::ScalarType::Undefined), beside ? " slices" : ""));
      // As in a network: inputs behind each other and gradients beside each other in one tensor; or on their own.
      const at::Tensor all = random({3, 2, 150, 64}, precision.x);
      std::vector<at::Tensor> x, weights, gy;
      const at::Tensor all_gy = random({2, 150, 3 * 48}, precision.product());
      for (int64_t i = 0; i < 3; ++i) {
        x.push_back((beside ? all[i] : all[i].clone()).detach().requires_grad_(i != 1));
        weights.push_back(random({48, 64}, precision.weight).requires_grad_(i != 2));
        const at::Tensor part = all_gy.slice(2, 48 * i, 48 * (i + 1));
        gy.push_back(beside ? part : part.contiguous());
      }
      std::optional<AutocastGuard> autocast;
      if (precision.autocast) autocast.emplace(GetParam().type(), *precision.autocast);
      const std::vector<at::Tensor> inputs{x[0], x[2], weights[0], weights[1]};
      const std::vector<at::Tensor> many = ops::linears(x, weights);
      const auto gradients = torch::autograd::grad(many, inputs, gy);
      std::vector<at::Tensor> each;
      for (size_t i = 0; i < 3; ++i) each.push_back(ops::linear(x[i], weights[i]));
      const auto expected = torch::autograd::grad(each, inputs, gy);
      const double share = tolerance(precision.product());
      for (size_t i = 0; i < 3; ++i) EXPECT_TRUE(close("y", each[i], many[i], share));
      for (size_t i = 0; i < inputs.size(); ++i) {
        EXPECT_EQ(gradients[i].scalar_type(), inputs[i].scalar_type());
        EXPECT_TRUE(close("gradient", expected[i], gradients[i], share));
      }
      const at::NoGradGuard no_grad;
      const std::vector<at::Tensor> again = ops::linears(x, weights);
      for (size_t i = 0; i < 3; ++i) EXPECT_TRUE(at::equal(many[i], again[i]));
    }
  }
}

TEST_P(Linear, GivesTheWeightGradientsOfManyUnrounded) {
  at::manual_seed(11);
  if (!GetParam().is_cuda()) return;          // Elsewhere autograd's own.
  for (const int64_t channels : {64, 768}) {  // One by one, and in one batched product.
    SCOPED_TRACE(channels);
    const at::Tensor all = random({3, 300, channels}, at::kBFloat16),
                     all_gy = random({300, 3 * channels}, at::kBFloat16);
    std::vector<at::Tensor> x, weights, gy;
    for (int64_t i = 0; i < 3; ++i) {
      x.push_back(all[i]);
      weights.push_back(random({channels, channels}, at::kFloat).requires_grad_());
      gy.push_back(all_gy.slice(1, channels * i, channels * (i + 1)));
    }
    const auto gradients = torch::autograd::grad(ops::linears(x, weights), weights, gy);
    for (size_t i = 0; i < 3; ++i) {
      EXPECT_TRUE(gradients[i].is_contiguous());
      EXPECT_TRUE(close("gweight", at::mm(wide(gy[i]).t(), wide(x[i])), gradients[i], 5e-5));
    }
  }
}

TEST_P(Linear, GivesTheGradientsThatAreAskedFor) {
  at::manual_seed(4);
  const Precision precision{at::kFloat, at::kFloat, at::kBFloat16};
  const at::Tensor x = random({2, 6, 16}, at::kFloat), weight = random({8, 16}, at::kFloat);
  const at::Tensor gy = random({2, 6, 8}, at::kBFloat16);
  const at::Tensor leaf_x = x.clone().requires_grad_(), leaf_weight = weight.clone().requires_grad_();
  const auto both = torch::autograd::grad({run(leaf_x, leaf_weight, precision)}, {leaf_x, leaf_weight}, {gy});
  EXPECT_TRUE(at::equal(both[0], torch::autograd::grad({run(leaf_x, weight, precision)}, {leaf_x}, {gy})[0]));
  EXPECT_TRUE(at::equal(both[1], torch::autograd::grad({run(x, leaf_weight, precision)}, {leaf_weight}, {gy})[0]));
  EXPECT_FALSE(run(x, weight, precision).requires_grad());
}

TEST_P(Linear, TakesAnyMemoryLayoutAndEmptyBatches) {
  at::manual_seed(5);
  const Precision precision{at::kBFloat16, at::kFloat, {}};
  const at::Tensor x = random({4, 3, 16}, at::kBFloat16), weight = random({16, 8}, at::kFloat);
  const auto gradients = [&](const at::Tensor& tokens, const at::Tensor& matrix) {
    const at::Tensor leaf_x = tokens.detach().requires_grad_(), leaf_weight = matrix.detach().requires_grad_();
    // The gradient of a sum is one number, expanded.
    return torch::autograd::grad({run(leaf_x, leaf_weight, precision).sum()}, {leaf_x, leaf_weight});
  };
  const auto expected = gradients(x, weight.t().contiguous());
  const auto actual = gradients(x.transpose(0, 1).contiguous().transpose(0, 1), weight.t());
  EXPECT_TRUE(close("gx", expected[0], actual[0], 1e-2));
  EXPECT_TRUE(close("gweight", expected[1], actual[1], 1e-2));
  const auto of_nothing = gradients(x.slice(0, 0, 0), weight.t());
  EXPECT_EQ(of_nothing[0].sizes(), at::IntArrayRef({0, 3, 16}));
  EXPECT_TRUE(at::equal(of_nothing[1], at::zeros_like(weight.t())));
}

TEST_P(Linear, AddsToGradientsAsLeavesDo) {
  // Gradients come to the parameter itself, where hooks wait for them, and are its own.
  at::manual_seed(6);
  const at::Tensor x = random({2, 5, 8}, at::kBFloat16);
  const at::Tensor weight = random({4, 8}, at::kFloat).requires_grad_();
  int came = 0;
  weight.register_hook([&](const at::Tensor& gradient) {
    EXPECT_EQ(gradient.scalar_type(), at::kFloat);
    ++came;
  });
  const Precision precision{at::kBFloat16, at::kFloat, at::kBFloat16};
  run(x, weight, precision).sum().backward();
  const at::Tensor once = weight.grad().clone();
  EXPECT_TRUE(weight.grad().is_contiguous());
  run(x, weight, precision).sum().backward();
  EXPECT_TRUE(at::equal(weight.grad(), once * 2));
  EXPECT_EQ(came, 2);
}

TEST_P(Linear, SeesChangedWeightsInNewAndOldGuards) {
  at::manual_seed(7);
  const at::Tensor x = random({2, 5, 8}, at::kBFloat16);
  for (const bool frozen : {false, true}) {
    at::Tensor weight = random({4, 8}, at::kFloat).requires_grad_(!frozen);
    const auto expected = [&] { return at::linear(x, weight.detach().to(at::kBFloat16)); };
    for (int step = 0; step < 3; ++step) {
      const AutocastGuard autocast(GetParam().type(), at::kBFloat16);
      EXPECT_TRUE(at::equal(ops::linear(x, weight), expected())) << step;
      const at::NoGradGuard no_grad;
      weight.mul_(-2);
    }
    if (!GetParam().is_cuda()) continue;  // Autocast's own cache does not look.
    const AutocastGuard autocast(GetParam().type(), at::kBFloat16);
    for (int step = 0; step < 3; ++step) {
      EXPECT_TRUE(at::equal(ops::linear(x, weight), expected())) << step;
      const at::NoGradGuard no_grad;
      weight.mul_(-2);
    }
  }
}

TEST_P(Linear, ReadsTheCastsThatAreKeptOnCudaAlone) {
  at::manual_seed(8);
  const at::Tensor x = random({2, 5, 8}, at::kBFloat16);
  const at::Tensor weight = random({4, 8}, at::kFloat).requires_grad_();
  const AutocastGuard autocast(GetParam().type(), at::kBFloat16);
  ops::cast_weights(weight, at::kBFloat16);
  ops::kept_cast(weight, at::kBFloat16).zero_();
  const auto reads = [&] { return ops::linear(x, weight).abs().sum().item<double>() == 0; };
  EXPECT_EQ(reads(), GetParam().is_cuda());
  const at::NoGradGuard no_grad;
  EXPECT_EQ(reads(), GetParam().is_cuda());
}

TEST_P(Linear, IsNotDifferentiatedTwiceInSilence) {
  at::manual_seed(9);
  const at::Tensor x = random({2, 5, 8}, at::kBFloat16).requires_grad_();
  const at::Tensor weight = random({4, 8}, at::kFloat).requires_grad_();
  const at::Tensor y = ops::linear(x, weight);
  const auto first = torch::autograd::grad({y.sum()}, {x}, {}, /*retain_graph=*/true, /*create_graph=*/true);
  const auto second = [&] { return torch::autograd::grad({first[0].square().sum()}, {weight}); };
  if (GetParam().is_cuda()) {
    EXPECT_THROW(second(), c10::Error);
  } else {
    EXPECT_GT(second()[0].abs().sum().item<double>(), 0);
  }
}

}  // namespace
}  // namespace vrwkv::testing

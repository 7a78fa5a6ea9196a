#include "train/classification_loss.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/assert_close.h"

namespace vrwkv::testing {
namespace {

using config::LossName;
using config::LossOptions;
using train::classification_loss;

const LossOptions kBce{.name = LossName::bce};

/// The documented formula, element by element in float64; `targets` are shares.
double written_out(const at::Tensor& logits, const at::Tensor& targets, const LossOptions& options, double smoothing) {
  const int64_t batch = logits.size(0), classes = logits.size(1);
  double sum = 0;
  for (int64_t b = 0; b < batch; ++b) {
    double normaliser = 0;
    for (int64_t c = 0; c < classes; ++c) normaliser += std::exp(logits[b][c].item<double>());
    for (int64_t c = 0; c < classes; ++c) {
      const double x = logits[b][c].item<double>();
      double t = (1 - smoothing) * targets[b][c].item<double>() + smoothing / static_cast<double>(classes);
      if (options.name == LossName::cross_entropy) {
        sum -= t * std::log(std::exp(x) / normaliser);
        continue;
      }
      if (options.bce_threshold) t = t > *options.bce_threshold ? 1 : 0;
      const double p = 1 / (1 + std::exp(-x));
      sum -= (t * std::log(p) + (1 - t) * std::log(1 - p)) / (options.bce_sum ? 1.0 : static_cast<double>(classes));
    }
  }
  return sum / static_cast<double>(batch);
}

TEST(ClassificationLoss, EqualsTheWrittenOutFormulas) {
  at::manual_seed(11);
  const std::vector<LossOptions> all{{},
                                     kBce,
                                     {.name = LossName::bce, .bce_sum = true},
                                     {.name = LossName::bce, .bce_threshold = 0.2},
                                     {.name = LossName::bce, .bce_threshold = 0.0, .bce_sum = true}};
  for (const auto& [batch, classes] : {std::pair{1, 1}, {1, 5}, {7, 2}, {6, 13}}) {
    const at::Tensor logits = at::randn({batch, classes}, at::kDouble) * 3;
    const at::Tensor labels = at::randint(classes, {batch}, at::kLong);
    const at::Tensor shares = at::softmax(at::randn({batch, classes}, at::kDouble), 1);
    for (const LossOptions& options : all) {
      for (const double smoothing : {0.0, 0.1, 0.7}) {
        const at::Tensor hard = at::one_hot(labels, classes);
        EXPECT_NEAR(classification_loss(logits, labels, options, smoothing).item<double>(),
                    written_out(logits, hard, options, smoothing), 1e-12);
        EXPECT_NEAR(classification_loss(logits, shares, options, smoothing).item<double>(),
                    written_out(logits, shares, options, smoothing), 1e-12);
      }
    }
  }
}

// Values of Python's torch 2.11 (F.cross_entropy, F.binary_cross_entropy_with_logits) in float64.
TEST(ClassificationLoss, AgreesWithPythonsTorch) {
  const at::Tensor logits = at::tensor({0.5, -1.25, 2.0, -0.75, 0.25, 1.5}, at::kDouble).view({2, 3});
  const at::Tensor labels = at::tensor({2, 0}, at::kLong);
  const at::Tensor shares = at::tensor({0.25, 0.25, 0.5, 0.0, 0.9, 0.1}, at::kDouble).view({2, 3});
  const auto value = [&](const at::Tensor& targets, const LossOptions& options) {
    return classification_loss(logits, targets, options, 0.1).item<double>();
  };
  EXPECT_NEAR(value(labels, {}), 1.4316472962546283, 1e-14);
  EXPECT_NEAR(value(shares, {}), 1.4597722962546285, 1e-14);
  EXPECT_NEAR(value(labels, kBce), 0.8445262967574915, 1e-14);
  EXPECT_NEAR(value(shares, {.name = LossName::bce, .bce_sum = true}), 2.561703890272474, 1e-14);
  EXPECT_NEAR(value(shares, {.name = LossName::bce, .bce_threshold = 0.2}), 0.7945262967574913, 1e-14);
}

TEST(ClassificationLoss, GradientIsThatOfTheFormula) {
  at::manual_seed(12);
  const at::Tensor shares = at::softmax(at::randn({3, 4}, at::kDouble), 1);
  for (const LossOptions& options : {LossOptions{}, kBce, LossOptions{.name = LossName::bce, .bce_sum = true}}) {
    at::Tensor logits = at::randn({3, 4}, at::kDouble).requires_grad_();
    classification_loss(logits, shares, options, 0.1).backward();
    const at::Tensor smooth = shares * 0.9 + 0.1 / 4;
    const at::Tensor x = logits.detach();
    const at::Tensor expected = options.name == LossName::cross_entropy
                                    ? (at::softmax(x, 1) - smooth) / 3
                                    : (at::sigmoid(x) - smooth) / (options.bce_sum ? 3.0 : 12.0);
    EXPECT_TRUE(close("gradient", expected, logits.grad(), 1e-12));
  }
}

TEST(ClassificationLoss, HalfPrecisionLogitsAreSummedInFloat32) {
  at::manual_seed(13);
  const at::Tensor logits = at::randn({5, 9}).to(at::kBFloat16), labels = at::randint(9, {5}, at::kLong);
  for (const LossOptions& options : {LossOptions{}, kBce}) {
    const at::Tensor loss = classification_loss(logits, labels, options, 0.1);
    EXPECT_EQ(loss.scalar_type(), at::kFloat);
    EXPECT_NEAR(loss.item<double>(), written_out(logits.to(at::kDouble), at::one_hot(labels, 9), options, 0.1), 1e-5);
  }
}

TEST(ClassificationLoss, RefusesTargetsOfAnotherShapeOrType) {
  const at::Tensor logits = at::zeros({2, 3});
  for (const at::Tensor& targets : {at::zeros({3}, at::kLong), at::zeros({2}, at::kInt), at::zeros({2, 3}, at::kLong),
                                    at::zeros({2, 4}), at::zeros({2})}) {
    EXPECT_THROW(classification_loss(logits, targets, {}, 0.1), c10::Error) << targets.sizes();
  }
}

}  // namespace
}  // namespace vrwkv::testing

#include "ops/adamw.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/support/assert_close.h"
#include "tests/support/devices.h"

namespace vrwkv::testing {
namespace {

using Tensors = std::vector<at::Tensor>;

/// Sizes around those of vectors and tiles, more tensors than one launch takes, and an empty one.
Tensors awkward_tensors(int64_t count, bool positive) {
  const std::vector<int64_t> sizes{1, 2, 3, 4, 5, 192, 1023, 1024, 1025, 0, 2049, 4096, 7};
  Tensors tensors;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t size = sizes[static_cast<size_t>(i) % sizes.size()];
    // Some lie where they cannot be read 16 bytes at a time.
    const at::Tensor whole = at::randn({size + i % 3}, at::kDouble).to(at::kCUDA, at::kFloat);
    const at::Tensor part = whole.narrow(0, i % 3, size);
    tensors.push_back(positive ? part.abs_() : part);
  }
  return tensors;
}

Tensors wide(const Tensors& tensors) {
  Tensors copies;
  for (const at::Tensor& tensor : tensors) copies.push_back(tensor.to(at::kCPU, at::kDouble));
  return copies;
}

at::Tensor scalar(double value) { return at::full({}, value, at::TensorOptions(at::kCUDA).dtype(at::kFloat)); }

class AdamWStep : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!devices().back().is_cuda()) GTEST_SKIP() << "no CUDA device";
    at::manual_seed(1);
    values = awkward_tensors(1100, false);
    gradients = awkward_tensors(1100, false);
    exp_avgs = awkward_tensors(1100, false);
    exp_avg_sqs = awkward_tensors(1100, true);
  }

  void step(const Tensors& factors = {}, const at::Tensor& skip = {}) {
    ops::adamw_step(values, gradients, exp_avgs, exp_avg_sqs,
                    {.beta1 = 0.75,
                     .beta2 = 0.9375,
                     .weight_decay = decay,
                     .eps = 0.0078125,
                     .lr = lr,
                     .steps = steps,
                     .factors = factors,
                     .skip = skip});
  }

  Tensors values, gradients, exp_avgs, exp_avg_sqs;
  double decay = 0.25;
  at::Tensor lr, steps;
};

TEST_F(AdamWStep, FollowsTheWrittenOutFormula) {
  for (const double weight_decay : {0.25, 0.0}) {
    decay = weight_decay;
    for (int count = 1; count <= 3; ++count) {
      lr = scalar(0.125 / count);
      steps = scalar(count);
      Tensors p = wide(values), m = wide(exp_avgs), v = wide(exp_avg_sqs);
      const Tensors g = wide(gradients), before = wide(gradients);
      step({scalar(0.5), scalar(0.75)});
      for (size_t i = 0; i < p.size(); ++i) {
        const at::Tensor scaled = g[i] * 0.375;
        m[i] = 0.75 * m[i] + 0.25 * scaled;
        v[i] = 0.9375 * v[i] + 0.0625 * scaled * scaled;
        const at::Tensor size = (v[i] / (1 - std::pow(0.9375, count))).sqrt() + 0.0078125;
        p[i] = p[i] * (1 - 0.125 / count * decay) - 0.125 / count * m[i] / (1 - std::pow(0.75, count)) / size;
      }
      EXPECT_TRUE(close("values", at::cat(p), at::cat(wide(values)), 1e-6));
      EXPECT_TRUE(close("exp_avgs", at::cat(m), at::cat(wide(exp_avgs)), 1e-6));
      EXPECT_TRUE(close("exp_avg_sqs", at::cat(v), at::cat(wide(exp_avg_sqs)), 1e-6));
      EXPECT_TRUE(at::equal(at::cat(before), at::cat(wide(gradients))));
    }
  }
}

TEST_F(AdamWStep, SkipsAsTheDeviceSays) {
  lr = scalar(0.125);
  steps = scalar(1);
  const at::Tensor before = at::cat({at::cat(values), at::cat(exp_avgs), at::cat(exp_avg_sqs)}).clone();
  gradients[5].fill_(std::numeric_limits<double>::quiet_NaN());
  step({}, scalar(1));
  EXPECT_TRUE(at::equal(before, at::cat({at::cat(values), at::cat(exp_avgs), at::cat(exp_avg_sqs)})));
  step({}, scalar(0));
  EXPECT_TRUE(values[5].isnan().all().item<bool>());
  EXPECT_FALSE(values[6].isnan().any().item<bool>());
}

TEST_F(AdamWStep, CountsAsAChangeOfItsTensors) {
  lr = scalar(0.125);
  steps = scalar(1);
  const auto versions = [&] {
    return std::vector<int64_t>{values[7]._version(), exp_avgs[7]._version(), exp_avg_sqs[7]._version()};
  };
  const auto before = versions();
  const auto of_gradient = gradients[7]._version();
  step();
  for (size_t i = 0; i < before.size(); ++i) EXPECT_GT(versions()[i], before[i]);
  EXPECT_EQ(gradients[7]._version(), of_gradient);
}

TEST_F(AdamWStep, NamesWhatIsWrong) {
  lr = scalar(0.125);
  steps = scalar(1);
  EXPECT_THROW(step({scalar(1), scalar(1), scalar(1)}), c10::Error);
  EXPECT_THROW(step({at::ones({})}), c10::Error);
  gradients[3] = gradients[3].to(at::kDouble);
  EXPECT_THROW(step(), c10::Error);
  gradients[3] = gradients[4];
  EXPECT_THROW(step(), c10::Error);
  gradients.pop_back();
  EXPECT_THROW(step(), c10::Error);
}

}  // namespace
}  // namespace vrwkv::testing

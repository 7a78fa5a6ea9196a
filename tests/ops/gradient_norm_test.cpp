#include "ops/gradient_norm.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <limits>

#include "tests/support/assert_close.h"
#include "tests/support/devices.h"

namespace vrwkv::testing {
namespace {

class GradientNorm : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!devices().back().is_cuda()) GTEST_SKIP() << "no CUDA device";
    at::manual_seed(1);
  }

  /// Of the given sizes, every third one where it cannot be read 16 bytes at a time.
  static std::vector<at::Tensor> gradients(const std::vector<int64_t>& sizes) {
    std::vector<at::Tensor> all;
    for (const int64_t size : sizes) {
      const int64_t offset = std::ssize(all) % 3 == 1 ? 1 : 0;
      all.push_back(at::randn({size + offset}, at::kDouble).to(at::kCUDA, at::kFloat).narrow(0, offset, size));
    }
    return all;
  }

  static at::Tensor scalar(double value) { return at::full({}, value, at::TensorOptions(at::kCUDA).dtype(at::kFloat)); }
};

TEST_F(GradientNorm, IsThatOfAllTogether) {
  std::vector<std::vector<int64_t>> cases{{1}, {4096}, {4095, 4097, 0, 3}, {5'000'000, 192, 7}, {}};
  for (int64_t i = 0; i < 1200; ++i) cases.back().push_back(i % 500);  // More than one launch takes.
  for (const auto& sizes : cases) {
    const auto all = gradients(sizes);
    const double expected = at::cat(all).to(at::kCPU, at::kDouble).norm().item<double>() * 0.375;
    for (const double max_norm : {0.0, 0.5, 1e6}) {
      const auto [norm, coefficient] = ops::gradient_norm(all, {scalar(0.5), scalar(0.75)}, max_norm);
      EXPECT_TRUE(close("norm", at::scalar_tensor(expected, at::kDouble), norm, 1e-6));
      const double ratio = std::min(1.0, max_norm / (expected + 1e-6));
      EXPECT_TRUE(close("coefficient", at::scalar_tensor(ratio, at::kDouble), coefficient, 1e-6));
      const auto [again, same] = ops::gradient_norm(all, {scalar(0.5), scalar(0.75)}, max_norm);
      EXPECT_TRUE(at::equal(norm, again));
      EXPECT_TRUE(at::equal(coefficient, same));
    }
  }
}

TEST_F(GradientNorm, IsNanOrInfinityWhereAGradientIs) {
  for (const double bad : {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    auto all = gradients({100, 9000, 5});
    all[1][8500].fill_(bad);
    const auto [norm, coefficient] = ops::gradient_norm(all, {}, 1.0);
    EXPECT_EQ(std::isnan(norm.item<double>()), std::isnan(bad));
    EXPECT_FALSE(std::isfinite(norm.item<double>()));
    EXPECT_EQ(std::isnan(coefficient.item<double>()), std::isnan(bad));
  }
}

TEST_F(GradientNorm, NamesWhatIsWrong) {
  EXPECT_THROW(ops::gradient_norm({}, {}, 1.0), c10::Error);
  EXPECT_THROW(ops::gradient_norm(at::ones({3}, at::TensorOptions(at::kCUDA).dtype(at::kDouble)), {}, 1.0), c10::Error);
  EXPECT_THROW(ops::gradient_norm(at::ones({3, 4}, at::kCUDA).t(), {}, 1.0), c10::Error);
  EXPECT_THROW(ops::gradient_norm(at::ones({3}, at::kCUDA), {scalar(1), scalar(1), scalar(1)}, 1.0), c10::Error);
  EXPECT_THROW(ops::gradient_norm(at::ones({3}, at::kCUDA), at::ones({1}, at::kCUDA), 1.0), c10::Error);
}

}  // namespace
}  // namespace vrwkv::testing

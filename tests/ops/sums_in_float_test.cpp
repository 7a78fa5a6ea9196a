#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <gtest/gtest.h>

#include "tests/support/assert_close.h"
#include "tests/support/devices.h"

namespace vrwkv::testing {
namespace {

/// The sums are of CUDA's kernels alone.
class SumsInFloat : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!devices().back().is_cuda()) GTEST_SKIP() << "no CUDA device";
  }

  static at::Tensor sums(const at::Tensor& x, int64_t dim) {
    static const auto op = c10::Dispatcher::singleton()
                               .findSchemaOrThrow("vrwkv::_sums_in_float", "")
                               .typed<at::Tensor(const at::Tensor&, int64_t)>();
    return op.call(x, dim);
  }
};

TEST_F(SumsInFloat, AreTheSumsInEveryShapeAndRun) {
  at::manual_seed(1);
  struct Shape {
    std::vector<int64_t> sizes;
    int64_t dim;
  };
  const std::vector<Shape> shapes{{{1, 1}, 0},         {{7, 5}, 0},        {{8, 4096, 192}, 0}, {{256, 196, 192}, 0},
                                  {{16, 3, 8}, 0},     {{17, 3, 8}, 0},    {{8, 4096, 192}, 1}, {{3, 4099, 40}, 1},
                                  {{32768, 192}, 0},   {{3, 5000, 13}, 1}, {{2, 33, 77, 8}, 1}, {{9, 131}, 1},
                                  {{2000, 300, 8}, 1}, {{0, 6}, 0},        {{5, 0}, 0}};
  for (const auto& [sizes, dim] : shapes) {
    for (const auto dtype : {at::kBFloat16, at::kHalf}) {
      SCOPED_TRACE(c10::str(at::IntArrayRef(sizes), " over ", dim, " ", dtype));
      const at::Tensor x = at::randn(sizes, at::kDouble).to(at::kCUDA, dtype);
      const at::Tensor result = sums(x, dim);
      EXPECT_EQ(result.scalar_type(), at::kFloat);
      EXPECT_TRUE(close("sums", x.to(at::kCPU, at::kDouble).sum(dim), result, 1e-6));
      EXPECT_TRUE(at::equal(result, sums(x, dim)));
    }
  }
}

TEST_F(SumsInFloat, NameWhatIsWrong) {
  const at::Tensor x = at::ones({4, 6}, at::TensorOptions(at::kCUDA).dtype(at::kBFloat16));
  EXPECT_THROW(sums(x, 2), c10::Error);
  EXPECT_THROW(sums(x.t(), 0), c10::Error);
}

}  // namespace
}  // namespace vrwkv::testing

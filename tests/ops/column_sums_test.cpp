#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <gtest/gtest.h>

#include "tests/support/assert_close.h"
#include "tests/support/devices.h"

namespace vrwkv::testing {
namespace {

/// The sums are of CUDA's backward kernels alone.
class ColumnSums : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!devices().back().is_cuda()) GTEST_SKIP() << "no CUDA device";
  }

  static at::Tensor column_sums(const at::Tensor& parts, int64_t dim) {
    static const auto op = c10::Dispatcher::singleton()
                               .findSchemaOrThrow("vrwkv::_column_sums", "")
                               .typed<at::Tensor(const at::Tensor&, int64_t)>();
    return op.call(parts, dim);
  }
};

TEST_F(ColumnSums, AreTheSumsInEveryShapeAndRun) {
  at::manual_seed(1);
  struct Shape {
    std::vector<int64_t> sizes;
    int64_t dim;
  };
  const std::vector<Shape> shapes{{{1, 1}, 0},        {{7, 5}, 0},         {{63, 8}, 0},       {{64, 9}, 0},
                                  {{65, 1}, 0},       {{1056, 5, 192}, 0}, {{2, 168, 192}, 1}, {{3, 5000, 13}, 1},
                                  {{264, 2, 768}, 0}, {{4, 3, 77, 31}, 2}, {{9, 130}, 1},      {{0, 6}, 0},
                                  {{5, 0}, 0},        {{0, 4, 6}, 1}};
  for (const auto& [sizes, dim] : shapes) {
    for (const auto dtype : {at::kDouble, at::kFloat}) {
      SCOPED_TRACE(c10::str(sizes, " over ", dim, " ", dtype));
      const at::Tensor parts = at::randn(sizes, at::kDouble).to(at::kCUDA, dtype);
      const at::Tensor sums = column_sums(parts, dim);
      const at::Tensor expected = parts.to(at::kCPU, at::kDouble).sum(dim);
      EXPECT_TRUE(close("sums", expected, sums, dtype == at::kDouble ? 1e-14 : 1e-6));
      EXPECT_TRUE(at::equal(sums, column_sums(parts, dim)));
    }
  }
}

TEST_F(ColumnSums, NameWhatIsWrong) {
  const at::Tensor parts = at::ones({4, 6}, at::kCUDA);
  EXPECT_THROW(column_sums(parts, 2), c10::Error);
  EXPECT_THROW(column_sums(parts.t(), 0), c10::Error);
}

}  // namespace
}  // namespace vrwkv::testing

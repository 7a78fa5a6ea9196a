#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <gtest/gtest.h>

#include <limits>

#include "tests/support/assert_close.h"
#include "tests/support/devices.h"

namespace vrwkv::testing {
namespace {

using Tensors = std::vector<at::Tensor>;

/// They are of CUDA's backward kernels alone.
class WeightGradients : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto op = c10::Dispatcher::singleton().findSchema({"vrwkv::_weight_gradients", ""});
    if (!op || !devices().back().is_cuda()) GTEST_SKIP() << "no CUDA device";
  }

  static Tensors weight_gradients(at::TensorList gys, at::TensorList xs) {
    static const auto op = c10::Dispatcher::singleton()
                               .findSchemaOrThrow("vrwkv::_weight_gradients", "")
                               .typed<Tensors(at::TensorList, at::TensorList)>();
    return op.call(gys, xs);
  }

  static at::Tensor random(int64_t tokens, int64_t channels, at::ScalarType dtype = at::kBFloat16) {
    return at::randn({tokens, channels}, at::kDouble).to(at::kCUDA, dtype);
  }

  static at::Tensor expected(const at::Tensor& gy, const at::Tensor& x) {
    return at::mm(gy.to(at::kDouble).t(), x.to(at::kDouble));
  }
};

TEST_F(WeightGradients, AreTheSumsOverTokensInEverySizeAndRun) {
  at::manual_seed(1);
  struct Size {
    int64_t channels, hidden;
  };
  // Of the kernels' tiles in one and several blocks each; and of cuBLAS.
  for (const auto& [channels, hidden] : {Size{192, 768}, {384, 1536}, {768, 3072}, {192, 320}, {64, 192}}) {
    for (const int64_t tokens : {1, 63, 64, 65, 700, 4099}) {
      for (const auto dtype : {at::kBFloat16, at::kHalf}) {
        SCOPED_TRACE(c10::str(tokens, " tokens, ", channels, " channels, ", hidden, " hidden, ", dtype));
        const Tensors gys{random(tokens, hidden, dtype), random(tokens, channels, dtype)};
        const Tensors xs{random(tokens, channels, dtype), random(tokens, hidden, dtype)};
        const Tensors actual = weight_gradients(gys, xs), again = weight_gradients(gys, xs);
        ASSERT_EQ(actual.size(), 2);
        for (size_t i = 0; i < 2; ++i) {
          EXPECT_EQ(actual[i].scalar_type(), at::kFloat);
          EXPECT_TRUE(close("gradient", expected(gys[i], xs[i]), actual[i], 2e-5));
          EXPECT_TRUE(at::equal(actual[i], again[i]));
          EXPECT_TRUE(at::equal(actual[i], weight_gradients(gys[i], xs[i]).front()));
        }
      }
    }
  }
}

TEST_F(WeightGradients, TakeSlicesNoTokensAndDifferentSizes) {
  at::manual_seed(2);
  const at::Tensor wide = random(500, 3 * 768), x = random(500, 192);
  const at::Tensor slice = wide.slice(1, 768, 2 * 768);
  EXPECT_TRUE(close("slice", expected(slice, x), weight_gradients(slice, x).front(), 2e-5));
  const Tensors nothing = weight_gradients(slice.slice(0, 0, 0), x.slice(0, 0, 0));
  EXPECT_TRUE(at::equal(nothing.front(), at::zeros({768, 192}, nothing.front().options())));
  const Tensors different = weight_gradients({slice, x}, {x, x});
  EXPECT_TRUE(close("first", expected(slice, x), different[0], 2e-5));
  EXPECT_TRUE(close("second", expected(x, x), different[1], 2e-5));
}

TEST_F(WeightGradients, PassOnWhatIsNotFinite) {
  at::manual_seed(3);
  for (const int64_t channels : {192, 384, 768}) {
    for (const double bad : {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
      SCOPED_TRACE(c10::str(channels, " channels, ", bad));
      const Tensors gys{random(1001, 4 * channels), random(1001, channels)};
      const Tensors xs{random(1001, channels), random(1001, 4 * channels)};
      gys[0][1000][5].fill_(bad);
      xs[1][3][700].fill_(bad);
      const Tensors actual = weight_gradients(gys, xs);
      for (size_t i = 0; i < 2; ++i) {
        EXPECT_TRUE(at::equal(expected(gys[i], xs[i]).isnan(), actual[i].isnan())) << i;
        EXPECT_TRUE(at::equal(expected(gys[i], xs[i]).isinf(), actual[i].isinf())) << i;
      }
    }
  }
}

TEST_F(WeightGradients, NameWhatIsWrong) {
  const at::Tensor gy = random(4, 192), x = random(5, 192);
  EXPECT_THROW(weight_gradients(gy, x), c10::Error);
  EXPECT_THROW(weight_gradients({gy, gy}, gy), c10::Error);
}

}  // namespace
}  // namespace vrwkv::testing

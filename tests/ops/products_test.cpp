#include "ops/products.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/support/assert_close.h"
#include "tests/support/devices.h"

namespace vrwkv::testing {
namespace {

using Tensors = std::vector<at::Tensor>;

/// `count` products [rows, channels] x [channels, width].
struct Size {
  int64_t count, rows, channels, width;
};

struct Inputs {
  Tensors rows, weights;

  /// The rows are slices of one tensor, side by side, as the gradients of bi_wkv_gated are.
  Inputs(const Size& size, at::Device device, at::ScalarType dtype, bool transposed) {
    const at::TensorOptions options = at::TensorOptions(device).dtype(at::kFloat);
    const at::Tensor all = at::randn({size.rows, size.count * size.channels}, options).to(dtype);
    rows = all.split(size.channels, 1);
    for (int64_t i = 0; i < size.count; ++i) {
      const at::Tensor weight =
          at::randn({size.width, size.channels}, options) / std::sqrt(static_cast<double>(size.channels));
      weights.push_back((transposed ? weight.t().contiguous() : weight).to(dtype));
    }
  }
};

Tensors reference(const Inputs& inputs, bool transposed) {
  Tensors results;
  for (size_t i = 0; i < inputs.rows.size(); ++i) {
    const at::Tensor weight = inputs.weights[i].to(at::kDouble);
    results.push_back(at::matmul(inputs.rows[i].to(at::kDouble), transposed ? weight : weight.t()));
  }
  return results;
}

class Products : public ::testing::TestWithParam<at::Device> {
 protected:
  /// On CUDA bfloat16 products of sizes that the kernel takes, tiles full, broken and nearly empty.
  static std::vector<Size> sizes() {
    std::vector<Size> all{{1, 5, 64, 64}, {2, 33, 128, 192}, {3, 7, 16, 24}};
    if (GetParam().is_cuda()) {
      for (const Size& size : {Size{1, 25088, 768, 768},
                               {3, 25087, 768, 768},
                               {1, 24001, 1536, 768},
                               {1, 70001, 256, 320},
                               {3, 50176, 384, 384},
                               {2, 30011, 320, 448}}) {
        all.push_back(size);
      }
    }
    return all;
  }
};

INSTANTIATE_TEST_SUITE_P(Devices, Products, ::testing::ValuesIn(devices()), device_name);

TEST_P(Products, MatchTheFormulaInEqualBits) {
  at::manual_seed(1);
  for (const Size& size : sizes()) {
    for (const auto& [dtype, tolerance] : {std::pair{at::kBFloat16, 3e-3}, {at::kFloat, 1e-5}}) {
      if (dtype == at::kFloat && size.rows > 100) continue;
      for (const bool transposed : {false, true}) {
        SCOPED_TRACE(c10::str(size.count, " of ", size.rows, " x ", size.channels, " x ", size.width, " ", dtype,
                              transposed ? " transposed" : ""));
        const Inputs inputs(size, GetParam(), dtype, transposed);
        const Tensors expected = reference(inputs, transposed);
        const Tensors actual = ops::products(inputs.rows, inputs.weights, transposed);
        const Tensors again = ops::products(inputs.rows, inputs.weights, transposed);
        ASSERT_EQ(actual.size(), inputs.rows.size());
        for (size_t i = 0; i < actual.size(); ++i) {
          EXPECT_EQ(actual[i].scalar_type(), dtype);
          const at::Tensor difference = actual[i].to(at::kDouble) - expected[i];
          EXPECT_LT((difference.norm() / expected[i].norm()).item<double>(), tolerance);
          EXPECT_TRUE(at::equal(actual[i], again[i]));
          // Every element, where a norm over all would hide some.
          EXPECT_LT((difference.abs() - expected[i].abs() * 5e-3).max().item<double>(), 1e-4);
        }
      }
    }
  }
}

TEST_P(Products, OfOneAreThoseOfMany) {
  at::manual_seed(2);
  const int64_t rows = GetParam().is_cuda() ? 23001 : 21;
  for (const bool transposed : {false, true}) {
    const Inputs inputs({3, rows, 768, 768}, GetParam(), at::kBFloat16, transposed);
    const Tensors many = ops::products(inputs.rows, inputs.weights, transposed);
    for (size_t i = 0; i < many.size(); ++i) {
      const at::Tensor one = ops::product(inputs.rows[i], inputs.weights[i], transposed);
      EXPECT_TRUE(close("one", many[i], one, 1e-3));
    }
  }
}

TEST_P(Products, PassOnWhatIsNotFinite) {
  at::manual_seed(3);
  const int64_t rows = GetParam().is_cuda() ? 25000 : 40;
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  for (const double bad : {std::numeric_limits<double>::quiet_NaN(), kInfinity, -kInfinity}) {
    for (const bool transposed : {false, true}) {
      const Inputs inputs({1, rows, 768, 768}, GetParam(), at::kBFloat16, transposed);
      inputs.rows[0][3][5].fill_(bad);
      inputs.rows[0][rows - 1][700].fill_(bad);
      const at::Tensor actual = ops::product(inputs.rows[0], inputs.weights[0], transposed);
      const at::Tensor expected = reference(inputs, transposed)[0];
      EXPECT_TRUE(at::equal(expected.isnan(), actual.isnan()));
      EXPECT_TRUE(at::equal(expected.isinf(), actual.isinf()));
    }
  }
}

TEST_P(Products, TakeAnyMemoryLayoutAndShape) {
  at::manual_seed(4);
  const int64_t rows = GetParam().is_cuda() ? 49000 : 40;
  const Size size{1, rows, 320, 384};
  for (const bool transposed : {false, true}) {
    const Inputs inputs(size, GetParam(), at::kBFloat16, transposed);
    const at::Tensor &x = inputs.rows[0], &weight = inputs.weights[0];
    const at::Tensor expected = ops::product(x, weight, transposed);
    const at::Tensor storage = at::empty({x.numel() + 1}, x.options());
    const at::Tensor unaligned = storage.slice(0, 1).view(x.sizes()).copy_(x);
    EXPECT_TRUE(at::equal(expected, ops::product(unaligned, weight, transposed)));
    EXPECT_TRUE(at::equal(expected, ops::product(x.t().contiguous().t(), weight.t().contiguous().t(), transposed)));
    const at::Tensor shaped = ops::product(x.view({2, rows / 20, 10, 320}), weight, transposed);
    EXPECT_EQ(shaped.sizes(), at::IntArrayRef({2, rows / 20, 10, 384}));
    EXPECT_TRUE(at::equal(expected, shaped.view_as(expected)));
    const at::Tensor row = at::ones({320}, x.options()).expand({rows, 320});
    EXPECT_TRUE(close("expanded", ops::product(row.contiguous(), weight, transposed),
                      ops::product(row, weight, transposed), 1e-6));
    EXPECT_EQ(ops::product(x.slice(0, 0, 0), weight, transposed).sizes(), at::IntArrayRef({0, 384}));
  }
}

TEST_P(Products, OfDifferentSizesAreTakenOneByOne) {
  at::manual_seed(5);
  const at::TensorOptions options = at::TensorOptions(GetParam()).dtype(at::kBFloat16);
  const Tensors rows{at::randn({70, 64}, options), at::randn({50, 128}, options)};
  const Tensors weights{at::randn({32, 64}, options), at::randn({16, 128}, options)};
  const Tensors results = ops::products(rows, weights);
  for (size_t i = 0; i < 2; ++i) EXPECT_TRUE(at::equal(results[i], at::linear(rows[i], weights[i])));
}

}  // namespace
}  // namespace vrwkv::testing

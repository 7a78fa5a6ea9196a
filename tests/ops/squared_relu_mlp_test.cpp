#include "ops/squared_relu_mlp.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <limits>

#include "ops/squared_relu.h"
#include "ops/squared_relu_mlp_kernels.h"
#include "tests/support/assert_close.h"
#include "tests/support/devices.h"
#include "vrwkv/autocast.h"

namespace vrwkv::testing {
namespace {

using Tensors = std::vector<at::Tensor>;

struct Size {
  int64_t tokens, channels, hidden;

  std::string text() const { return c10::str(tokens, " tokens, C ", channels, " H ", hidden); }
};

/// One call's arguments and the gradient of its result; results are of the size of 1.
struct Inputs {
  at::Tensor x, key, value, gy;

  Inputs(const Size& size, at::Device device, at::ScalarType narrow, at::ScalarType wide)
      : x(at::randn({size.tokens, size.channels}, at::kDouble).to(device, narrow)),
        key(matrix(size.hidden, size.channels).to(device, wide)),
        value(matrix(size.channels, size.hidden).to(device, wide)),
        gy(at::randn({size.tokens, size.channels}, at::kDouble).to(device, narrow)) {}

  static at::Tensor matrix(int64_t rows, int64_t columns) {
    return at::randn({rows, columns}, at::kDouble) / std::sqrt(static_cast<double>(columns));
  }
};

/// y and the gradients of x, key and value; those that are frozen are undefined.
template <typename Op>
Tensors run(const Op& op, const Inputs& inputs, std::array<bool, 3> needed = {true, true, true}) {
  Tensors leaves{inputs.x, inputs.key, inputs.value}, asked;
  for (size_t i = 0; i < 3; ++i) {
    leaves[i] = leaves[i].detach().requires_grad_(needed[i]);
    if (needed[i]) asked.push_back(leaves[i]);
  }
  const at::Tensor y = op(leaves[0], leaves[1], leaves[2]);
  Tensors results{y.detach()};
  const Tensors gradients = asked.empty() ? Tensors() : torch::autograd::grad({y}, asked, {inputs.gy.to(y.dtype())});
  for (size_t i = 0, j = 0; i < 3; ++i) results.push_back(needed[i] ? gradients[j++] : at::Tensor());
  return results;
}

/// The formula and its gradients in float64, on the inputs' device.
Tensors reference(const Inputs& inputs) {
  const at::Tensor x = inputs.x.to(at::kDouble), key = inputs.key.to(at::kDouble), value = inputs.value.to(at::kDouble);
  const at::Tensor gy = inputs.gy.to(at::kDouble);
  const at::Tensor positive = at::mm(x, key.t()).clamp_min(0), hidden = positive.square();
  const at::Tensor gk = at::mm(gy, value) * 2 * positive;
  return {at::mm(hidden, value.t()), at::mm(gk, key), at::mm(gk.t(), x), at::mm(gy.t(), hidden)};
}

constexpr const char* kNames[] = {"y", "gx", "gkey", "gvalue"};

void expect_close(const Tensors& expected, const Tensors& actual, double tolerance) {
  for (size_t i = 0; i < 4; ++i) EXPECT_TRUE(close(kNames[i], expected[i], actual[i], tolerance));
}

void expect_equal(const Tensors& expected, const Tensors& actual) {
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_TRUE(!actual[i].defined() || at::equal(expected[i], actual[i])) << kNames[i];
  }
}

class SquaredReluMlp : public ::testing::TestWithParam<at::Device> {};

INSTANTIATE_TEST_SUITE_P(Devices, SquaredReluMlp, ::testing::ValuesIn(devices()), device_name);

TEST_P(SquaredReluMlp, MatchesTheFormula) {
  at::manual_seed(1);
  struct Precision {
    at::ScalarType narrow, wide;
    double tolerance;
  };
  std::vector<Size> sizes{{1, 192, 768}, {65, 192, 192},  {127, 192, 64}, {63, 384, 1536}, {129, 384, 128},
                          {65, 192, 96}, {129, 384, 192}, {40, 64, 256},  {33, 8, 20}};
  if (GetParam().is_cuda()) {
    // Tiles that are full, broken and nearly empty; then blocks that take several tiles, or end amid one.
    for (const int64_t tokens : {1, 63, 64, 65, 127, 129, 257, 1000, 4000}) {
      for (const auto& [channels, hidden] : {std::pair{192, 768}, {192, 320}, {384, 1536}, {320, 448}}) {
        sizes.push_back({tokens, channels, hidden});
      }
    }
    for (const Size& size :
         {Size{70001, 192, 64}, {32768, 192, 768}, {40001, 384, 64}, {9001, 384, 1536}, {5001, 768, 2048}}) {
      sizes.push_back(size);
    }
  }
  for (const Size& size : sizes) {
    for (const auto& [narrow, wide, tolerance] : {Precision{at::kDouble, at::kDouble, 1e-12},
                                                  {at::kFloat, at::kFloat, 1e-5},
                                                  {at::kBFloat16, at::kFloat, 1e-2},
                                                  {at::kBFloat16, at::kBFloat16, 2e-2}}) {
      SCOPED_TRACE(c10::str(size.text(), " ", narrow, " ", wide));
      const Inputs inputs(size, GetParam(), narrow, wide);
      const Tensors actual = run(ops::squared_relu_mlp, inputs);
      expect_close(reference(inputs), actual, tolerance);
      for (size_t i = 0; i < 2; ++i) EXPECT_EQ(actual[i].scalar_type(), narrow);
      for (size_t i = 2; i < 4; ++i) EXPECT_EQ(actual[i].scalar_type(), wide);
    }
  }
}

/// Fails unless `actual` is `expected` but for a few numbers that are another one close by: sums of another order are
/// now and then rounded to the number beside it, by at most `share`.
void expect_rounded_alike(const at::Tensor& expected, const at::Tensor& actual, double share) {
  const at::Tensor wide = expected.to(at::kFloat), difference = (actual.to(at::kFloat) - wide).abs();
  EXPECT_TRUE((difference <= wide.abs() * share + 2e-5).all().item<bool>()) << difference.max();
  EXPECT_LT((difference > 0).to(at::kDouble).mean().item<double>(), 0.02);
}

TEST_P(SquaredReluMlp, RoundsItsHiddenChannelsAsTheComposition) {
  at::manual_seed(2);
  for (const Size& size : {Size{1000, 192, 768}, {1000, 384, 1536}, {500, 256, 320}}) {
    SCOPED_TRACE(size.text());
    const Inputs inputs(size, GetParam(), at::kBFloat16, at::kFloat);
    if (!ops::squared_relu_mlp_is_fused(inputs.x, inputs.key, inputs.value)) continue;
    const auto [y, hidden] = ops::squared_relu_mlp_forward(inputs.x, inputs.key, inputs.value);
    // Squaring doubles the distance.
    expect_rounded_alike(ops::squared_relu(at::linear(inputs.x, inputs.key.to(at::kBFloat16))), hidden, 0.024);
    EXPECT_TRUE(at::equal(at::linear(hidden, inputs.value.to(at::kBFloat16)), y));
  }
}

TEST_P(SquaredReluMlp, RoundsTheHiddenGradientAsTheCompositionAndTheWeightsGradientsNotAtAll) {
  at::manual_seed(3);
  for (const Size& size : {Size{192, 192, 768}, {130, 192, 128}, {384, 384, 1536}, {65, 384, 384}, {200, 256, 320}}) {
    SCOPED_TRACE(size.text());
    const Inputs inputs(size, GetParam(), at::kBFloat16, at::kFloat);
    if (!ops::squared_relu_mlp_is_fused(inputs.x, inputs.key, inputs.value)) continue;
    const at::Tensor hidden = at::randn({size.tokens, size.hidden}, inputs.x.options()).relu();
    // With rows of the unit matrix for x, the key's gradient is the hidden gradient.
    const at::Tensor x = at::eye(size.tokens, size.channels, inputs.x.options());
    const auto [gx, gkey, gvalue] =
        ops::squared_relu_mlp_backward(inputs.gy, x, hidden, inputs.key, inputs.value, {}, {false, true, true});
    EXPECT_FALSE(gx.defined());
    const at::Tensor composed = at::mm(inputs.gy, inputs.value.to(at::kBFloat16)).to(at::kFloat);
    const at::Tensor expected = (composed * 2 * hidden.to(at::kFloat).sqrt()).to(at::kBFloat16);
    expect_rounded_alike(expected, gkey.t().slice(0, 0, size.tokens), 0.012);
    EXPECT_TRUE(close("gvalue", at::mm(inputs.gy.t().to(at::kDouble), hidden.to(at::kDouble)), gvalue, 1e-5));
  }
}

TEST_P(SquaredReluMlp, PassesOnWhatIsNotFinite) {
  at::manual_seed(4);
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  for (const Size& size : {Size{130, 192, 64}, {130, 384, 128}, {130, 256, 64}}) {
    for (const double bad : {std::numeric_limits<double>::quiet_NaN(), kInfinity, -kInfinity}) {
      for (const bool in_gradient : {false, true}) {
        SCOPED_TRACE(c10::str(size.text(), " ", bad, in_gradient ? " in gy" : " in x"));
        const Inputs inputs(size, GetParam(), at::kBFloat16, at::kFloat);
        const at::Tensor& changed = in_gradient ? inputs.gy : inputs.x;
        changed[3][5].fill_(bad);
        changed[128][100].fill_(bad);
        const Tensors expected = run(ops::squared_relu_mlp_composite, inputs);
        const Tensors actual = run(ops::squared_relu_mlp, inputs);
        for (size_t i = 0; i < 4; ++i) {
          EXPECT_TRUE(at::equal(expected[i].isnan(), actual[i].isnan())) << kNames[i];
          EXPECT_TRUE(at::equal(expected[i].isinf(), actual[i].isinf())) << kNames[i];
        }
      }
    }
  }
}

TEST_P(SquaredReluMlp, GivesEqualBitsInEveryRunAndWithFrozenInputs) {
  at::manual_seed(5);
  for (const Size& size : {Size{777, 192, 768}, {300, 384, 1536}, {40, 64, 256}}) {
    const Inputs inputs(size, GetParam(), at::kBFloat16, at::kFloat);
    const Tensors expected = run(ops::squared_relu_mlp, inputs);
    for (int mask = 0; mask < 8; ++mask) {
      SCOPED_TRACE(c10::str(size.text(), " mask ", mask));
      expect_equal(expected, run(ops::squared_relu_mlp, inputs, {(mask & 1) != 0, (mask & 2) != 0, (mask & 4) != 0}));
    }
    const at::NoGradGuard no_grad;
    EXPECT_TRUE(at::equal(expected[0], ops::squared_relu_mlp(inputs.x, inputs.key, inputs.value)));
  }
}

TEST_P(SquaredReluMlp, IsTheSameUnderAutocast) {
  at::manual_seed(6);
  for (const Size& size : {Size{200, 192, 768}, {200, 384, 1536}, {40, 64, 256}}) {
    SCOPED_TRACE(size.text());
    const Inputs plain(size, GetParam(), at::kBFloat16, at::kFloat);
    Inputs wide = plain;
    wide.x = plain.x.to(at::kFloat);
    const Tensors expected = run(ops::squared_relu_mlp, plain);
    const AutocastGuard autocast(GetParam().type(), at::kBFloat16);
    expect_equal(expected, run(ops::squared_relu_mlp, plain));
    Tensors actual = run(ops::squared_relu_mlp, wide);
    EXPECT_EQ(actual[0].scalar_type(), at::kBFloat16);
    EXPECT_EQ(actual[1].scalar_type(), at::kFloat);
    actual[1] = actual[1].to(at::kBFloat16);
    expect_equal(expected, actual);
  }
}

TEST_P(SquaredReluMlp, IsTheCompositionUnderHalfAutocast) {
  at::manual_seed(7);
  const Inputs inputs({65, 192, 768}, GetParam(), at::kFloat, at::kFloat);
  const AutocastGuard autocast(GetParam().type(), at::kHalf);
  const Tensors actual = run(ops::squared_relu_mlp, inputs);
  EXPECT_EQ(actual[0].scalar_type(), at::kHalf);
  expect_close(reference(inputs), actual, 5e-3);
}

TEST_P(SquaredReluMlp, TakesAnyShapeAndMemoryLayout) {
  at::manual_seed(8);
  const Inputs inputs({120, 192, 128}, GetParam(), at::kBFloat16, at::kFloat);
  const Tensors expected = run(ops::squared_relu_mlp, inputs);
  const auto op = [](const at::IntArrayRef shape) {
    return [shape = shape.vec()](const at::Tensor& x, const at::Tensor& key, const at::Tensor& value) {
      return ops::squared_relu_mlp(x.view(shape), key, value).view_as(x);
    };
  };
  expect_close(expected, run(op({2, 3, 20, 192}), inputs), 1e-5);
  EXPECT_EQ(ops::squared_relu_mlp(inputs.x[3], inputs.key, inputs.value).sizes(), at::IntArrayRef({192}));
  Inputs moved = inputs;
  const at::Tensor storage = at::empty({inputs.x.numel() + 1}, inputs.x.options());
  moved.x = storage.slice(0, 1).view(inputs.x.sizes()).copy_(inputs.x);  // Not aligned to 16 bytes.
  moved.key = inputs.key.t().contiguous().t();
  moved.value = inputs.value.t().contiguous().t();
  moved.gy = inputs.gy.t().contiguous().t();
  expect_close(expected, run(ops::squared_relu_mlp, moved), 1e-5);
}

TEST_P(SquaredReluMlp, TakesNoTokens) {
  for (const int64_t channels : {192, 384, 64}) {
    const Inputs inputs({0, channels, 4 * channels}, GetParam(), at::kBFloat16, at::kFloat);
    const Tensors results = run(ops::squared_relu_mlp, inputs);
    EXPECT_EQ(results[0].sizes(), inputs.x.sizes());
    EXPECT_EQ(results[1].sizes(), inputs.x.sizes());
    EXPECT_TRUE(at::equal(results[2], at::zeros_like(inputs.key)));
    EXPECT_TRUE(at::equal(results[3], at::zeros_like(inputs.value)));
  }
}

TEST_P(SquaredReluMlp, HasKernelsForSomeSizesAlone) {
  const auto is_fused = [&](const Size& size, at::ScalarType narrow, at::ScalarType wide) {
    const Inputs inputs(size, GetParam(), narrow, wide);
    return ops::squared_relu_mlp_is_fused(inputs.x, inputs.key, inputs.value);
  };
  EXPECT_FALSE(!GetParam().is_cuda() && is_fused({5, 192, 768}, at::kBFloat16, at::kFloat));
  EXPECT_FALSE(is_fused({5, 192, 96}, at::kBFloat16, at::kFloat));
  EXPECT_FALSE(is_fused({5, 384, 160}, at::kBFloat16, at::kFloat));
  EXPECT_FALSE(is_fused({5, 288, 1152}, at::kBFloat16, at::kFloat));
  EXPECT_FALSE(is_fused({5, 128, 512}, at::kBFloat16, at::kFloat));
  EXPECT_FALSE(is_fused({5, 192, 768}, at::kFloat, at::kFloat));
  EXPECT_FALSE(is_fused({5, 192, 768}, at::kHalf, at::kFloat));
  EXPECT_FALSE(is_fused({5, 192, 768}, at::kBFloat16, at::kBFloat16));
}

TEST_P(SquaredReluMlp, IsDifferentiableOnceWhereItIsFusedElseTwice) {
  at::manual_seed(9);
  for (const auto dtype : {at::kBFloat16, at::kDouble}) {
    const Inputs inputs({5, 192, 64}, GetParam(), dtype, dtype == at::kDouble ? at::kDouble : at::kFloat);
    const at::Tensor x = inputs.x.requires_grad_();
    const at::Tensor y = ops::squared_relu_mlp(x, inputs.key, inputs.value);
    const Tensors gx = torch::autograd::grad({y.sum()}, {x}, {}, std::nullopt, /*create_graph=*/true);
    const auto again = [&] { return torch::autograd::grad({gx[0].sum()}, {x}); };
    if (GetParam().is_cuda()) {  // squared_relu has one gradient there, too.
      EXPECT_THROW(again(), c10::Error);
    } else {
      EXPECT_TRUE(again()[0].defined());
    }
  }
}

TEST_P(SquaredReluMlp, NamesWhatIsWrongWithItsArguments) {
  const Inputs good({5, 192, 64}, GetParam(), at::kBFloat16, at::kFloat);
  const auto expect_error = [&](const std::string& part, const at::Tensor& x, const at::Tensor& key,
                                const at::Tensor& value) {
    try {
      ops::squared_relu_mlp(x, key, value);
      ADD_FAILURE() << "no error; expected: " << part;
    } catch (const c10::Error& error) {
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
    }
  };
  expect_error("key must be [H, C] for x [..., C], got [64, 191] for [5, 192]", good.x, good.key.slice(1, 0, 191),
               good.value);
  expect_error("key must be [H, C]", good.x, good.key[0], good.value);
  expect_error("value must be [C, H] for key [H, C], got [192, 63] for [64, 192]", good.x, good.key,
               good.value.slice(1, 0, 63));
}

}  // namespace
}  // namespace vrwkv::testing

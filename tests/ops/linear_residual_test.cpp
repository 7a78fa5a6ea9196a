// linear_residual against its formula in float64, and against the operators that it is made of: compositions, or on a
// GPU with wgmma one kernel.

#include "ops/linear_residual.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>

#include "ops/linear.h"
#include "tests/support/assert_close.h"
#include "tests/support/devices.h"
#include "tests/support/residual_add_case.h"
#include "tests/support/residual_add_reference.h"
#include "vrwkv/autocast.h"

namespace vrwkv::testing {
namespace {

using ops::Feed;
using Precision = ResidualPrecision;
using Tensors = std::vector<at::Tensor>;
constexpr Feed kFeeds[]{Feed::none, Feed::cast, Feed::standardized};

struct Size {
  int64_t batch, tokens, channels;
};

/// Sizes that the kernel takes (192 channels), with tiles that are full, broken and nearly empty, few and many, and
/// others.
const std::vector<Size>& sizes() {
  static const std::vector<Size> all{{1, 1, 192},   {1, 7, 192},    {2, 196, 192}, {3, 35, 192},    {1, 1056, 192},
                                     {130, 6, 192}, {600, 63, 192}, {2, 12, 64},   {1, 25345, 192}, {4, 64, 192}};
  return all;
}

/// One call's arguments and the gradients of its results.
struct Inputs {
  at::Tensor x, value, weight, mask, gy, gfeed;

  Inputs(const Size& size, bool masked) {
    const std::vector<int64_t> shape{size.batch, size.tokens, size.channels};
    x = at::randn(shape, at::kDouble);
    value = at::randn(shape, at::kDouble);
    weight = at::randn({size.channels, size.channels}, at::kDouble) / std::sqrt(static_cast<double>(size.channels));
    if (masked) mask = at::bernoulli(at::full({size.batch, 1, 1}, 0.7, at::kDouble)) / 0.7;
    gy = at::randn(shape, at::kDouble);
    gfeed = at::randn(shape, at::kDouble);
  }

  Inputs to(at::Device device, at::ScalarType wide, at::ScalarType narrow) const {
    Inputs moved = *this;
    for (at::Tensor* tensor : {&moved.x, &moved.weight, &moved.mask, &moved.gy}) {
      if (tensor->defined()) *tensor = tensor->to(device, wide);
    }
    for (at::Tensor* tensor : {&moved.value, &moved.gfeed}) *tensor = tensor->to(device, narrow);
    return moved;
  }
  Inputs to(at::Device device, const Precision& precision) const { return to(device, precision.x, precision.value); }
};

ops::ResidualOutput run(const Inputs& in, Feed feed) {
  return ops::linear_residual(in.x, in.value, in.weight, in.mask, feed, kEps);
}

/// The operators behind each other.
ops::ResidualOutput composed(const Inputs& in, Feed feed) {
  return ops::residual_add(in.x, {.value = ops::linear(in.value, in.weight), .mask = in.mask}, feed, kEps);
}

ops::ResidualOutput reference(const Inputs& in, Feed feed) {
  return residual_add_reference(in.x, {.value = at::matmul(in.value, in.weight.t()), .mask = in.mask}, feed, kEps);
}

/// The gradients of x, value and weight, which `in` gets as its leaves.
template <typename Op>
Tensors gradients(Inputs in, const Op& op, Feed feed, Through through) {
  const Tensors leaves{in.x.detach().requires_grad_(), in.value.detach().requires_grad_(),
                       in.weight.detach().requires_grad_()};
  in.x = leaves[0];
  in.value = leaves[1];
  in.weight = leaves[2];
  const ops::ResidualOutput output = op(in, feed);
  Tensors outputs, outer;
  if (through != Through::feed || feed == Feed::none) {
    outputs.push_back(output.x);
    outer.push_back(in.gy);
  }
  if (through != Through::x && feed != Feed::none) {
    outputs.push_back(output.feed);
    outer.push_back(in.gfeed.to(output.feed.scalar_type()));
  }
  return torch::autograd::grad(outputs, leaves, outer);
}

void expect_output(const ops::ResidualOutput& expected, const ops::ResidualOutput& actual, const at::Tensor& x,
                   Feed feed, double tolerance) {
  // What is added, not the sum, in which x would hide an error.
  const auto added = [&](const at::Tensor& y) { return y.to(at::kCPU, at::kDouble) - x.to(at::kCPU, at::kDouble); };
  EXPECT_TRUE(close("z", added(expected.x), added(actual.x), tolerance));
  EXPECT_EQ(actual.feed.defined(), feed != Feed::none);
  if (feed != Feed::none) {
    EXPECT_TRUE(close("feed", expected.feed, actual.feed, tolerance));
  }
}

class LinearResidual : public ::testing::TestWithParam<at::Device> {};

INSTANTIATE_TEST_SUITE_P(Devices, LinearResidual, ::testing::ValuesIn(devices()), device_name);

TEST_P(LinearResidual, MatchesTheFormulaWithoutGradients) {
  at::manual_seed(1);
  const at::NoGradGuard no_grad;
  for (const Size& size : sizes()) {
    const bool many = size.batch * size.tokens > 500;  // Their tiles are what matters.
    if (many && !GetParam().is_cuda()) continue;
    for (const Precision& precision : {kDouble, kFloat, kMixedBFloat16}) {
      for (const Feed feed : kFeeds) {
        if (many && (precision.x == precision.value || feed != Feed::standardized)) continue;
        for (const bool masked : {false, true}) {
          SCOPED_TRACE(c10::str(size.batch, " ", size.tokens, " ", size.channels, " ", precision.value, " feed ",
                                static_cast<int>(feed), " masked ", masked));
          const Inputs inputs = Inputs(size, masked).to(GetParam(), precision);
          expect_output(reference(inputs.to(at::kCPU, kDouble), feed), run(inputs, feed), inputs.x, feed,
                        precision.tolerance);
        }
      }
    }
  }
}

TEST_P(LinearResidual, GivesTheGradientsOfTheFormula) {
  at::manual_seed(2);
  for (const Size& size : {Size{3, 25, 192}, Size{2, 12, 64}}) {
    for (const Precision& precision : {kDouble, kFloat, kMixedBFloat16}) {
      for (const Feed feed : kFeeds) {
        for (const bool masked : {false, true}) {
          for (const Through through : {Through::x, Through::feed, Through::both}) {
            SCOPED_TRACE(c10::str(size.tokens, " ", size.channels, " ", precision.value, " feed ",
                                  static_cast<int>(feed), " masked ", masked, " through ", static_cast<int>(through)));
            const Inputs inputs = Inputs(size, masked).to(GetParam(), precision);
            const Tensors expected = gradients(inputs.to(at::kCPU, kDouble), reference, feed, through);
            const Tensors actual = gradients(inputs, run, feed, through);
            for (size_t i = 0; i < expected.size(); ++i) {
              EXPECT_TRUE(close("gradient " + std::to_string(i), expected[i], actual[i], precision.gradient_tolerance));
            }
          }
        }
      }
    }
  }
}

TEST_P(LinearResidual, IsAsGoodAsTheOperatorsThatItIsMadeOf) {
  at::manual_seed(3);
  for (const bool masked : {false, true}) {
    const Inputs inputs = Inputs({2, 300, 192}, masked).to(GetParam(), kMixedBFloat16);
    expect_output(composed(inputs, Feed::standardized), run(inputs, Feed::standardized), inputs.x, Feed::standardized,
                  1e-2);
    const Tensors expected = gradients(inputs, composed, Feed::standardized, Through::both);
    const Tensors actual = gradients(inputs, run, Feed::standardized, Through::both);
    for (size_t i = 0; i < expected.size(); ++i) {
      EXPECT_TRUE(close("gradient " + std::to_string(i), expected[i], actual[i], 1e-2));
      EXPECT_EQ(actual[i].scalar_type(), expected[i].scalar_type());
    }
  }
}

TEST_P(LinearResidual, GivesEqualBitsInEveryRunUnderAutocastAndWithTheWeightRounded) {
  at::manual_seed(4);
  const Inputs inputs = Inputs({2, 1000, 192}, true).to(GetParam(), kMixedBFloat16);
  const ops::ResidualOutput expected = run(inputs, Feed::standardized);
  const Tensors of_inputs = gradients(inputs, run, Feed::standardized, Through::both);
  const auto expect_equal = [&](const Inputs& again) {
    const ops::ResidualOutput output = run(again, Feed::standardized);
    EXPECT_TRUE(at::equal(expected.x, output.x));
    EXPECT_TRUE(at::equal(expected.feed, output.feed));
    const Tensors once_more = gradients(again, run, Feed::standardized, Through::both);
    for (size_t i = 0; i < 2; ++i) EXPECT_TRUE(at::equal(of_inputs[i], once_more[i])) << i;
  };
  expect_equal(inputs);
  {
    const AutocastGuard autocast(GetParam().type(), at::kBFloat16);
    expect_equal(inputs);
  }
  const at::NoGradGuard no_grad;
  Inputs rounded = inputs;
  rounded.weight = inputs.weight.to(at::kBFloat16);
  const ops::ResidualOutput output = run(rounded, Feed::standardized);
  EXPECT_TRUE(at::equal(expected.x, output.x) && at::equal(expected.feed, output.feed));
}

/// The kernel may start beside the one before it; what that one and those before it wrote must be there all the same.
TEST_P(LinearResidual, ReadsWhatWasWrittenJustBefore) {
  at::manual_seed(5);
  const at::NoGradGuard no_grad;
  const Size size = GetParam().is_cuda() ? Size{8, 4096, 192} : Size{1, 16, 192};
  std::vector<Inputs> given;
  std::vector<ops::ResidualOutput> expected;
  for (int i = 0; i < 2; ++i) {
    given.push_back(Inputs(size, true).to(GetParam(), kMixedBFloat16));
    expected.push_back(run(given.back(), Feed::standardized));
  }
  Inputs inputs = given[0];
  const auto all = [](Inputs& of) { return std::vector<at::Tensor*>{&of.x, &of.weight, &of.mask, &of.value}; };
  for (at::Tensor* tensor : all(inputs)) *tensor = tensor->clone();
  for (size_t i = 1; i < 8; ++i) {
    for (size_t j = 0; j < 4; ++j) all(inputs)[j]->copy_(*all(given[i % 2])[j]);
    const ops::ResidualOutput output = run(inputs, Feed::standardized);
    EXPECT_TRUE(at::equal(output.x, expected[i % 2].x)) << i;
    EXPECT_TRUE(at::equal(output.feed, expected[i % 2].feed)) << i;
  }
}

TEST_P(LinearResidual, TakesAnyMemoryLayoutAndUnalignedTensors) {
  at::manual_seed(6);
  const Inputs inputs = Inputs({3, 35, 192}, true).to(GetParam(), kMixedBFloat16);
  const auto unaligned = [](const at::Tensor& tensor) {
    return at::empty({tensor.numel() + 1}, tensor.options()).slice(0, 1).view_as(tensor).copy_(tensor);
  };
  Inputs moved = inputs;
  moved.x = inputs.x.transpose(0, 1).contiguous().transpose(0, 1);
  moved.value = unaligned(inputs.value);
  moved.weight = inputs.weight.t().contiguous().t();
  moved.mask = inputs.mask.view({-1});
  const ops::ResidualOutput expected = run(inputs, Feed::standardized), actual = run(moved, Feed::standardized);
  expect_output(expected, actual, inputs.x, Feed::standardized, 1e-6);
  moved.x = unaligned(inputs.x);
  moved.weight = unaligned(inputs.weight);
  expect_output(expected, run(moved, Feed::standardized), inputs.x, Feed::standardized, 1e-6);
}

TEST_P(LinearResidual, KeepsNaNWithinItsToken) {
  at::manual_seed(7);
  Inputs inputs = Inputs({2, 100, 192}, false).to(GetParam(), kMixedBFloat16);
  inputs.value[1][37][5] = std::numeric_limits<float>::quiet_NaN();
  inputs.x[0][3][191] = std::numeric_limits<float>::quiet_NaN();
  const ops::ResidualOutput output = run(inputs, Feed::standardized);
  EXPECT_EQ(output.feed.isnan().sum().item<int64_t>(), 2 * 192);
  EXPECT_TRUE(output.feed[1][37].isnan().all().item<bool>() && output.feed[0][3].isnan().all().item<bool>());
  EXPECT_EQ(output.x.isnan().sum().item<int64_t>(), 192 + 1);
}

TEST_P(LinearResidual, ComputesOnlyTheGradientsThatAreAskedFor) {
  at::manual_seed(8);
  const Inputs inputs = Inputs({2, 50, 192}, true).to(GetParam(), kMixedBFloat16);
  const Tensors whole = gradients(inputs, run, Feed::standardized, Through::both);
  for (size_t i = 0; i < 3; ++i) {
    Inputs one = inputs;
    at::Tensor* const leaf = std::array{&one.x, &one.value, &one.weight}[i];
    *leaf = leaf->detach().requires_grad_();
    one.mask = one.mask.detach().requires_grad_();
    const ops::ResidualOutput output = run(one, Feed::standardized);
    const Tensors computed =
        torch::autograd::grad({output.x, output.feed}, {*leaf, one.mask}, {one.gy, one.gfeed}, std::nullopt,
                              /*create_graph=*/false, /*allow_unused=*/true);
    EXPECT_TRUE(close("gradient " + std::to_string(i), whole[i], computed[0], 1e-6));
    EXPECT_FALSE(computed[1].defined());
  }
}

TEST_P(LinearResidual, AcceptsEmptyTensors) {
  for (const Size& size : {Size{0, 4, 192}, Size{2, 0, 192}}) {
    const Inputs inputs = Inputs(size, true).to(GetParam(), kMixedBFloat16);
    const ops::ResidualOutput output = run(inputs, Feed::standardized);
    EXPECT_EQ(output.x.sizes(), inputs.x.sizes());
    EXPECT_EQ(output.feed.sizes(), inputs.x.sizes());
    EXPECT_EQ(gradients(inputs, run, Feed::standardized, Through::both)[2].sizes(), inputs.weight.sizes());
  }
}

TEST_P(LinearResidual, NamesWhatIsWrongWithItsArguments) {
  const Inputs good = Inputs({2, 6, 192}, true).to(GetParam(), kMixedBFloat16);
  const auto expect_error = [&](const auto& spoil, const std::string& text, Feed feed = Feed::standardized) {
    Inputs bad = good;
    spoil(bad);
    try {
      run(bad, feed);
      ADD_FAILURE() << "no error: " << text;
    } catch (const c10::Error& error) {
      const std::string message = error.what_without_backtrace();
      EXPECT_NE(message.find(text), std::string::npos) << "'" << text << "' not in: " << message;
    }
  };
  expect_error([](Inputs& in) { in.value = in.value[0]; }, "linear_residual: value must be [B, T, C], got [6, 192]");
  expect_error([](Inputs& in) { in.weight = in.weight.slice(1, 0, 64); },
               "linear_residual: weight must be [D, C], C = 192, got [192, 64]");
  expect_error([](Inputs& in) { in.x = in.x.slice(1, 0, 5); },
               "value must have the shape of x, [2, 5, 192], got [2, 6, 192]");
  expect_error([](Inputs& in) { in.mask = in.mask.slice(0, 1); }, "mask must have B = 2 elements, got [1, 1, 1]");
  expect_error([](Inputs&) {}, "feed must be 0 (none), 1 (cast) or 2 (standardized), got 3", static_cast<Feed>(3));
}

}  // namespace
}  // namespace vrwkv::testing

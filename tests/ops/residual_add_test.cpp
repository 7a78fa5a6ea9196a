#include "ops/residual_add.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "tests/support/assert_close.h"
#include "tests/support/devices.h"
#include "tests/support/residual_add_case.h"
#include "tests/support/residual_add_reference.h"
#include "vrwkv/autocast.h"

namespace vrwkv::testing {
namespace {

using ops::Feed;
using ops::ResidualBranch;
using Case = ResidualCase;
using Precision = ResidualPrecision;

void expect_equal_results(Case& expected, Case& actual, const Precision& precision) {
  EXPECT_TRUE(close("x'", expected.output.x, actual.output.x, precision.tolerance));
  ASSERT_EQ(expected.output.feed.defined(), actual.output.feed.defined());
  if (expected.output.feed.defined()) {
    EXPECT_TRUE(close("feed", expected.output.feed, actual.output.feed, precision.tolerance));
  }
  const auto inputs = actual.inputs();
  ASSERT_EQ(expected.gradients.size(), inputs.size());
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const auto& [name, input] = inputs[i];
    EXPECT_TRUE(close("gradient of " + name, expected.gradients[i], actual.gradients[i], precision.gradient_tolerance,
                      precision.absolute));
    EXPECT_EQ(actual.gradients[i].scalar_type(), input->scalar_type()) << name;
  }
}

class ResidualAdd : public ::testing::TestWithParam<at::Device> {
 protected:
  /// The op against the formula on the same, already rounded inputs: only the op's own error counts.
  void expect_formula(const Case& inputs, const Precision& precision, Through through) const {
    Case actual = inputs.to(GetParam(), precision);
    Case expected = actual.to(at::kCPU, kDouble);
    expected.run(residual_add_reference, through);
    actual.run(ops::residual_add, through);
    EXPECT_EQ(actual.output.x.scalar_type(), actual.x.defined()                    ? precision.x
                                             : actual.branch.norm_weight.defined() ? precision.parameters()
                                                                                   : precision.value);
    EXPECT_TRUE(actual.output.x.is_contiguous());
    if (inputs.feed != Feed::none) {
      EXPECT_EQ(actual.output.feed.scalar_type(), precision.value);
    }
    expect_equal_results(expected, actual, precision);
  }
};

INSTANTIATE_TEST_SUITE_P(Devices, ResidualAdd, ::testing::ValuesIn(devices()), device_name);

constexpr Feed kFeeds[] = {Feed::none, Feed::cast, Feed::standardized};

TEST_P(ResidualAdd, MatchesTheFormulaForAllPartsFeedsAndGradients) {
  at::manual_seed(1);
  for (const auto& precision : {kDouble, kFloat, kMixedBFloat16, kMixedHalf, kBFloat16, kHalf}) {
    // 65 takes the narrow accesses on CUDA.
    for (const int64_t channels :
         precision.x == at::kFloat ? std::vector<int64_t>{65, 192} : std::vector<int64_t>{192}) {
      for (int parts = 0; parts <= kEvery; ++parts) {
        for (const Feed feed : kFeeds) {
          for (const Through through : {Through::x, Through::feed, Through::both}) {
            SCOPED_TRACE(c10::str(precision.x, " ", precision.value, " C ", channels, " parts ", parts, " feed ",
                                  static_cast<int>(feed), " through ", static_cast<int>(through)));
            expect_formula(random_residual_case(3, 5, channels, parts, feed), precision, through);
          }
        }
      }
    }
  }
}

TEST_P(ResidualAdd, MatchesTheFormulaAtAwkwardShapes) {
  at::manual_seed(2);
  for (const auto& precision : {kDouble, kFloat, kMixedBFloat16, kBFloat16}) {
    for (const auto& [batch, tokens] : {std::pair<int64_t, int64_t>{1, 1}, {3, 7}}) {
      for (const int64_t channels : {1, 3, 7, 33, 100, 192, 196, 384, 768, 769, 1024, 2050}) {
        // Rows of a few channels can have a variance near 0, which magnifies the rounding of a reduced feed.
        if (precision.value == at::kBFloat16 && channels > 1 && channels < 33) continue;
        for (const int parts : {0, static_cast<int>(kGate), kGate | kScale, static_cast<int>(kAll), kAlone | kNorm}) {
          for (const Feed feed : kFeeds) {
            SCOPED_TRACE(c10::str(precision.x, " ", precision.value, " B ", batch, " T ", tokens, " C ", channels,
                                  " parts ", parts, " feed ", static_cast<int>(feed)));
            Precision tolerances = precision;
            if (channels < 33) tolerances.absolute = tolerances.gradient_tolerance *= 100;
            expect_formula(random_residual_case(batch, tokens, channels, parts, feed), tolerances, Through::both);
          }
        }
      }
    }
  }
}

TEST_P(ResidualAdd, MatchesTheFormulaOverManyRows) {
  at::manual_seed(3);
  for (const int64_t channels : {48, 50, 768}) {
    SCOPED_TRACE(channels);
    expect_formula(random_residual_case(channels > 50 ? 3 : 40, 701, channels, kAll, Feed::standardized), kFloat,
                   Through::both);
  }
}

TEST_P(ResidualAdd, StaysExactFarFromZero) {
  at::manual_seed(4);
  Case inputs = random_residual_case(2, 9, 192, kGate | kNorm, Feed::standardized);
  inputs.x += 1000;
  Precision precision = kFloat;
  precision.tolerance = precision.gradient_tolerance = 1e-3;  // 1000 is known to 6e-5
  expect_formula(inputs, precision, Through::both);
}

TEST_P(ResidualAdd, TakesParametersInTheDtypeOfX) {
  at::manual_seed(5);
  Case actual = random_residual_case(2, 9, 40, kAll, Feed::standardized).to(GetParam(), kBFloat16);
  for (at::Tensor* parameter :
       {&actual.branch.norm_weight, &actual.branch.norm_bias, &actual.branch.scale, &actual.branch.mask}) {
    *parameter = parameter->to(at::kBFloat16);
  }
  Case expected = actual.to(at::kCPU, kDouble);
  expected.run(residual_add_reference);
  actual.run(ops::residual_add);
  expect_equal_results(expected, actual, kBFloat16);
}

TEST_P(ResidualAdd, TakesAnyMemoryLayout) {
  at::manual_seed(6);
  for (const auto& precision : {kFloat, kMixedBFloat16}) {
    Case base = random_residual_case(3, 20, 16, kAll, Feed::standardized).to(GetParam(), precision);
    base.gy = base.gy.select(0, 0).unsqueeze(0).expand_as(base.gy).contiguous();
    Case strided = base;
    strided.x = base.x.transpose(1, 2).contiguous().transpose(1, 2);
    strided.branch.value = at::stack({base.branch.value, base.branch.value}, -1).select(-1, 1);
    strided.branch.gate = at::cat({base.branch.gate, base.branch.gate}, 2).slice(2, 16);
    strided.branch.scale = at::stack({base.branch.scale, base.branch.scale}, 1).select(1, 0);
    strided.branch.mask = base.branch.mask.view({-1});
    strided.gy = base.gy.select(0, 0).unsqueeze(0).expand_as(base.gy);
    strided.gfeed = base.gfeed.transpose(0, 1).contiguous().transpose(0, 1);
    Case expected = base;
    expected.run(ops::residual_add);
    strided.run(ops::residual_add);
    expect_equal_results(expected, strided, precision);
  }
}

TEST_P(ResidualAdd, TakesPointersOfAnyAlignment) {
  at::manual_seed(7);
  for (const auto& precision : {kFloat, kMixedBFloat16}) {
    const Case base = random_residual_case(3, 20, 64, kAll, Feed::standardized).to(GetParam(), precision);
    // The same values one element off the alignment of an allocation, each tensor in turn.
    const auto moved = [](const at::Tensor& tensor) {
      const at::Tensor buffer = at::empty({tensor.numel() + 1}, tensor.options());
      return buffer.slice(0, 1).view_as(tensor).copy_(tensor);
    };
    for (at::Tensor Case::*member : {&Case::x, &Case::gy, &Case::gfeed}) {
      Case expected = base, actual = base;
      actual.*member = moved(base.*member);
      expected.run(ops::residual_add);
      actual.run(ops::residual_add);
      expect_equal_results(expected, actual, precision);
    }
    for (at::Tensor ResidualBranch::*member :
         {&ResidualBranch::value, &ResidualBranch::gate, &ResidualBranch::norm_weight, &ResidualBranch::norm_bias,
          &ResidualBranch::scale, &ResidualBranch::mask}) {
      Case expected = base, actual = base;
      actual.branch.*member = moved(base.branch.*member);
      expected.run(ops::residual_add);
      actual.run(ops::residual_add);
      expect_equal_results(expected, actual, precision);
    }
  }
}

TEST_P(ResidualAdd, AcceptsEmptyTensors) {
  for (const auto& [batch, tokens, channels] :
       {std::tuple<int64_t, int64_t, int64_t>{0, 4, 5}, {0, 1, 192}, {2, 0, 5}, {2, 3, 0}}) {
    for (const Feed feed : kFeeds) {
      SCOPED_TRACE(c10::str(batch, " ", tokens, " ", channels, " feed ", static_cast<int>(feed)));
      Case empty = random_residual_case(batch, tokens, channels, kAll, feed).to(GetParam(), kMixedBFloat16);
      empty.run(ops::residual_add);
      EXPECT_EQ(empty.output.x.sizes(), empty.x.sizes());
      ASSERT_EQ(empty.output.feed.defined(), feed != Feed::none);
      if (feed != Feed::none) {
        EXPECT_EQ(empty.output.feed.sizes(), empty.x.sizes());
      }
      const auto inputs = empty.inputs();
      for (std::size_t i = 0; i < inputs.size(); ++i) {
        EXPECT_TRUE(at::equal(empty.gradients[i], at::zeros_like(*inputs[i].second))) << inputs[i].first;
      }
    }
  }
}

TEST_P(ResidualAdd, GivesEqualBitsInEveryRun) {
  at::manual_seed(8);
  for (const auto& precision : {kFloat, kMixedBFloat16}) {
    Case first = random_residual_case(64, 100, 192, kAll, Feed::standardized).to(GetParam(), precision);
    Case second = first;
    first.run(ops::residual_add);
    second.run(ops::residual_add);
    EXPECT_TRUE(at::equal(first.output.x, second.output.x) && at::equal(first.output.feed, second.output.feed));
    const auto inputs = first.inputs();
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      EXPECT_TRUE(at::equal(first.gradients[i], second.gradients[i])) << inputs[i].first;
    }
  }
}

TEST_P(ResidualAdd, ComputesOnlyTheGradientsThatAreAskedFor) {
  at::manual_seed(9);
  Case whole = random_residual_case(2, 10, 48, kAll, Feed::standardized).to(GetParam(), kFloat);
  whole.run(ops::residual_add);
  const auto inputs = whole.inputs();
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    SCOPED_TRACE(inputs[i].first);
    for (const auto& [name, input] : inputs) *input = input->detach();
    inputs[i].second->requires_grad_();
    const auto output = ops::residual_add(whole.x, whole.branch, whole.feed, kEps);
    const auto gradient =
        torch::autograd::grad({output.x, output.feed}, {*inputs[i].second}, {whole.gy, whole.gfeed})[0];
    EXPECT_TRUE(close("gradient", whole.gradients[i], gradient, 1e-6));
  }
}

TEST_P(ResidualAdd, GivesTheMaskNoGradient) {
  Case inputs = random_residual_case(2, 3, 8, kGate | kMask, Feed::standardized).to(GetParam(), kFloat);
  inputs.x.requires_grad_();
  inputs.branch.mask.requires_grad_();
  const auto output = ops::residual_add(inputs.x, inputs.branch, inputs.feed, kEps);
  const auto gradients = torch::autograd::grad({output.x.sum()}, {inputs.x, inputs.branch.mask}, {},
                                               /*retain_graph=*/false, /*create_graph=*/false, /*allow_unused=*/true);
  EXPECT_TRUE(gradients[0].defined());
  EXPECT_FALSE(gradients[1].defined());
}

TEST_P(ResidualAdd, FeedsTheSumItselfWhereTheDtypesAreEqual) {
  const Case inputs = random_residual_case(2, 3, 8, kGate, Feed::cast).to(GetParam(), kFloat);
  const auto output = ops::residual_add(inputs.x, inputs.branch, Feed::cast, kEps);
  EXPECT_TRUE(output.feed.is_same(output.x));
}

TEST_P(ResidualAdd, PropagatesNaNWithinItsRow) {
  for (const int64_t channels : {33, 192}) {
    Case inputs = random_residual_case(1, 8, channels, kAll, Feed::standardized).to(GetParam(), kFloat);
    inputs.branch.value[0][3][1] = std::numeric_limits<float>::quiet_NaN();
    const auto output = ops::residual_add(inputs.x, inputs.branch, inputs.feed, kEps);
    for (const at::Tensor& y : {output.x, output.feed}) {
      const at::Tensor rows = y.isnan().all(2)[0];
      EXPECT_EQ(rows.sum().item<int64_t>(), 1);
      EXPECT_TRUE(rows[3].item<bool>());
      EXPECT_EQ(y.isnan().sum().item<int64_t>(), channels);
    }
  }
}

TEST_P(ResidualAdd, KeepsItsDtypesUnderAutocast) {
  at::manual_seed(10);
  for (const int64_t channels : {48, 2050}) {
    Case plain = random_residual_case(2, 6, channels, kAll, Feed::standardized).to(GetParam(), kMixedBFloat16);
    Case cast = plain;
    plain.run(ops::residual_add);
    {
      const AutocastGuard autocast(GetParam().type(), at::kBFloat16);
      cast.run(ops::residual_add);
    }
    EXPECT_EQ(cast.output.x.scalar_type(), at::kFloat);
    EXPECT_EQ(cast.output.feed.scalar_type(), at::kBFloat16);
    expect_equal_results(plain, cast, {at::kFloat, at::kBFloat16, 1e-15, 1e-15});
  }
}

TEST_P(ResidualAdd, ReachesPastTwoToTheThirtyOneElements) {
  if (!GetParam().is_cuda()) GTEST_SKIP() << "for kernels that index elements";
  const int64_t channels = 1024, tokens = (int64_t{1} << 31) / channels + 5;
  const auto options = at::TensorOptions(at::kBFloat16).device(GetParam());
  Case inputs;
  inputs.feed = Feed::standardized;
  inputs.x = at::empty({1, tokens, channels}, options).normal_();
  inputs.branch.value = inputs.x.neg();
  inputs.branch.scale = at::full({channels}, 0.5, options.dtype(at::kFloat));
  inputs.gy = inputs.x;
  inputs.gfeed = inputs.x;
  Case last = inputs;
  for (at::Tensor* tensor : {&last.x, &last.branch.value, &last.gy, &last.gfeed}) {
    *tensor = tensor->slice(1, tokens - 5).clone();
  }
  inputs.run(ops::residual_add);
  last.run(ops::residual_add);
  EXPECT_TRUE(at::equal(inputs.output.x.slice(1, tokens - 5), last.output.x));
  EXPECT_TRUE(at::equal(inputs.output.feed.slice(1, tokens - 5), last.output.feed));
  EXPECT_TRUE(at::equal(inputs.gradients[0].slice(1, tokens - 5), last.gradients[0]));
  EXPECT_TRUE(at::equal(inputs.gradients[1].slice(1, tokens - 5), last.gradients[1]));
}

TEST_P(ResidualAdd, RefusesToDifferentiateItsGradientOnCuda) {
  if (!GetParam().is_cuda()) GTEST_SKIP() << "elsewhere it is differentiable any number of times";
  Case inputs = random_residual_case(1, 4, 8, kAll, Feed::standardized).to(GetParam(), kFloat);
  inputs.branch.value.requires_grad_();
  const auto output = ops::residual_add(inputs.x, inputs.branch, inputs.feed, kEps);
  const auto gradient = torch::autograd::grad({output.feed.square().sum()}, {inputs.branch.value}, {},
                                              /*retain_graph=*/true, /*create_graph=*/true)[0];
  EXPECT_THROW(torch::autograd::grad({gradient.sum()}, {inputs.branch.value}), c10::Error);
}

TEST_P(ResidualAdd, NamesWhatIsWrongWithItsArguments) {
  const Case good = random_residual_case(2, 6, 4, kAll, Feed::none).to(GetParam(), kMixedBFloat16);
  const auto expect_error = [&](const auto& spoil, const std::string& text, Feed feed = Feed::none) {
    Case bad = good;
    spoil(bad);
    try {
      ops::residual_add(bad.x, bad.branch, feed, kEps);
      ADD_FAILURE() << "no error: " << text;
    } catch (const c10::Error& error) {
      const std::string message = error.what_without_backtrace();
      EXPECT_NE(message.find("residual_add: " + text), std::string::npos) << "'" << text << "' not in: " << message;
    }
  };
  expect_error([](Case& c) { c.x = c.x[0]; }, "x must be [B, T, C], got [6, 4]");
  expect_error([](Case& c) { c.x = c.x.to(at::kLong); }, "x must be float64, float32, bfloat16 or float16, got Long");
  expect_error([](Case& c) { c.branch.value = at::Tensor(); }, "value must be a tensor, got an undefined one");
  expect_error([](Case& c) { c.branch.value = c.branch.value.slice(1, 0, 5); },
               "value must have the shape of x, [2, 6, 4], got [2, 5, 4]");
  expect_error([](Case& c) { c.branch.value = c.branch.value.to(at::kDouble); },
               "value must have the dtype of x, Float, or be bfloat16 or float16, got Double");
  expect_error([](Case& c) { c.x = c.x.to(at::kHalf); }, "value must have the dtype of x, Half, got BFloat16");
  expect_error([](Case& c) { c.branch.gate = c.branch.gate[0]; },
               "gate must have the shape of x, [2, 6, 4], got [6, 4]");
  expect_error([](Case& c) { c.branch.gate = c.branch.gate.to(at::kFloat); },
               "gate must have the dtype of value, BFloat16, got Float");
  expect_error([](Case& c) { c.branch.norm_bias = at::Tensor(); },
               "norm_weight and norm_bias must be given together, got only norm_weight");
  expect_error([](Case& c) { c.branch.norm_weight = c.branch.norm_weight.slice(0, 1); },
               "norm_weight must be [C] = [4], got [3]");
  expect_error([](Case& c) { c.branch.norm_bias = c.branch.norm_bias.to(at::kDouble); },
               "norm_bias must be Float or have the dtype of x, Float, got Double");
  expect_error([](Case& c) { c.branch.scale = c.branch.scale.view({2, 2}); }, "scale must be [C] = [4], got [2, 2]");
  expect_error([](Case& c) { c.branch.mask = c.branch.mask.slice(0, 1); },
               "mask must have B = 2 elements, got [1, 1, 1]");
  expect_error([](Case& c) { c.branch.mask = c.branch.mask.to(at::kBool); }, "mask must be Float");
  expect_error(
      [](Case& c) {
        c.x = at::Tensor();
        c.branch.gate = c.branch.gate[0];
      },
      "gate must have the shape of value, [2, 6, 4], got [6, 4]");
  expect_error(
      [](Case& c) {
        c.x = at::Tensor();
        c.branch.value = c.branch.value.to(at::kDouble);
      },
      "value must have the dtype of norm_weight, Float, or be bfloat16 or float16, got Double");
  expect_error([](Case&) {}, "feed must be 0 (none), 1 (cast) or 2 (standardized), got 3", static_cast<Feed>(3));
  if (GetParam().is_cuda()) {
    expect_error([](Case& c) { c.branch.gate = c.branch.gate.cpu(); },
                 "gate must be on the device of x, cuda:0, got cpu");
    expect_error([](Case& c) { c.branch.scale = c.branch.scale.cpu(); },
                 "scale must be on the device of x, cuda:0, got cpu");
  }
}

}  // namespace
}  // namespace vrwkv::testing

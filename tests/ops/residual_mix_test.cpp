// residual_mix against its formula in float64, and against the operators that it is made of: compositions, or on a GPU
// of compute capability 9.0 one kernel for the gradients.

#include "ops/residual_mix.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <limits>

#include "ops/token_shift_mix.h"
#include "tests/support/assert_close.h"
#include "tests/support/devices.h"
#include "tests/support/q_shift_reference.h"
#include "tests/support/residual_add_case.h"
#include "tests/support/residual_add_reference.h"
#include "vrwkv/autocast.h"

namespace vrwkv::testing {
namespace {

using Precision = ResidualPrecision;
using Tensors = std::vector<at::Tensor>;

struct Size {
  int64_t batch, height, width, channels;
};

/// What a call has beside x, value and mixes.
struct Parts {
  bool gated, normed, scaled, masked;
};

constexpr Parts kEveryParts[]{{false, true, true, false},
                              {true, true, true, false},
                              {true, true, true, true},
                              {false, true, false, true},
                              {true, false, true, false}};
constexpr Parts kAllParts{true, true, true, true};

/// One call's arguments and the gradients of its results.
struct Inputs {
  at::Tensor x, mask, gy;
  Tensors narrow;      ///< value, and a gate where there is one
  Tensors parameters;  ///< the mixes, and the norm's weight and bias and the scale where they are
  Tensors gmixed;
  size_t mixes;
  bool normed, scaled;
  Size size;

  Inputs(const Size& of, size_t count, const Parts& parts) : mixes(count), size(of) {
    const std::vector<int64_t> shape{size.batch, size.height * size.width, size.channels};
    const auto tokens = [&] { return at::randn(shape, at::kDouble); };
    x = tokens();
    gy = tokens();
    for (int i = 0; i < (parts.gated ? 2 : 1); ++i) narrow.push_back(tokens());
    if (parts.masked) mask = at::bernoulli(at::full({size.batch, 1, 1}, 0.7, at::kDouble)) / 0.7;
    for (size_t j = 0; j < mixes; ++j) {
      parameters.push_back(at::rand({1, 1, size.channels}, at::kDouble));
      gmixed.push_back(tokens());
    }
    const auto per_channel = [&] { return at::randn({size.channels}, at::kDouble); };
    normed = parts.normed;
    if (normed) parameters.insert(parameters.end(), {per_channel() + 1, per_channel()});
    scaled = parts.scaled;
    if (scaled) parameters.push_back(per_channel() + 1);
  }

  Inputs to(at::Device device, at::ScalarType wide, at::ScalarType branch) const {
    Inputs moved = *this;
    const auto move = [&](at::Tensor& tensor, at::ScalarType dtype) {
      if (tensor.defined()) tensor = tensor.to(device, dtype);
    };
    for (at::Tensor* tensor : {&moved.x, &moved.mask, &moved.gy}) move(*tensor, wide);
    for (at::Tensor& tensor : moved.parameters) move(tensor, wide);
    for (at::Tensor& tensor : moved.narrow) move(tensor, branch);
    for (at::Tensor& tensor : moved.gmixed) move(tensor, branch);
    return moved;
  }
  Inputs to(at::Device device, const Precision& precision) const {
    return to(device, precision.parameters(), precision.value);
  }

  ops::ResidualBranch branch() const {
    ops::ResidualBranch made{.value = narrow[0], .mask = mask};
    if (narrow.size() > 1) made.gate = narrow[1];
    if (normed) made.norm_weight = parameters[mixes];
    if (normed) made.norm_bias = parameters[mixes + 1];
    if (scaled) made.scale = parameters.back();
    return made;
  }
  at::TensorList mix_list() const { return at::TensorList(parameters).slice(0, mixes); }
};

Tensors with_first(const at::Tensor& first, const Tensors& rest) {
  Tensors all{first};
  all.insert(all.end(), rest.begin(), rest.end());
  return all;
}

Tensors run(const Inputs& in) {
  const auto [sum, mixed] = ops::residual_mix(in.x, in.branch(), in.mix_list(), in.size.height, in.size.width, kEps);
  return with_first(sum, mixed);
}

/// The operators behind each other.
Tensors composed(const Inputs& in) {
  const auto [sum, feed] = ops::residual_add(in.x, in.branch(), ops::Feed::cast, kEps);
  return with_first(
      sum, ops::token_shift_mix(feed, in.mix_list(), std::nullopt, std::nullopt, in.size.height, in.size.width));
}

Tensors reference(const Inputs& in) {
  const auto [sum, feed] = residual_add_reference(in.x, in.branch(), ops::Feed::cast, kEps);
  const at::Tensor shifted = q_shift_reference(feed, in.size.height, in.size.width, in.size.channels);
  Tensors results{sum};
  for (const at::Tensor& mix : in.mix_list()) {
    results.push_back(feed * mix.flatten() + shifted * (1 - mix.flatten()));
  }
  return results;
}

/// The results, then the gradients of x, the branch and the parameters. `through`: the results that have gradients.
template <typename Op>
Tensors with_gradients(Inputs in, const Op& op, Through through = Through::both) {
  Tensors leaves;
  const auto leaf = [&](at::Tensor& tensor) { leaves.push_back(tensor = tensor.detach().requires_grad_()); };
  leaf(in.x);
  for (at::Tensor& tensor : in.narrow) leaf(tensor);
  for (at::Tensor& tensor : in.parameters) leaf(tensor);
  Tensors results = op(in);
  Tensors outputs, outer;
  if (through != Through::feed) {
    outputs.push_back(results[0]);
    outer.push_back(in.gy);
  }
  // The last mix alone has none where x has.
  for (size_t j = 0; j + (through == Through::x ? 1 : 0) < in.mixes; ++j) {
    outputs.push_back(results[1 + j]);
    outer.push_back(in.gmixed[j]);
  }
  const Tensors gradients = torch::autograd::grad(outputs, leaves, outer, std::nullopt, /*create_graph=*/false,
                                                  /*allow_unused=*/true);
  for (size_t i = 0; i < leaves.size(); ++i) {
    if (gradients[i].defined()) {
      EXPECT_EQ(gradients[i].scalar_type(), leaves[i].scalar_type());
    }
    results.push_back(gradients[i].defined() ? gradients[i] : at::zeros_like(leaves[i]));
  }
  return results;
}

void expect_close(const Tensors& expected, const Tensors& actual, const Precision& precision) {
  ASSERT_EQ(expected.size(), actual.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_TRUE(
        close("result " + std::to_string(i), expected[i], actual[i], precision.gradient_tolerance, precision.absolute));
  }
}

class ResidualMix : public ::testing::TestWithParam<at::Device> {
 protected:
  Inputs inputs(const Size& size, size_t mixes, const Parts& parts, const Precision& precision = kMixedBFloat16) const {
    return Inputs(size, mixes, parts).to(GetParam(), precision);
  }
};

INSTANTIATE_TEST_SUITE_P(Devices, ResidualMix, ::testing::ValuesIn(devices()), device_name);

TEST_P(ResidualMix, MatchesTheFormula) {
  at::manual_seed(1);
  // Of the kernel's widths and others; fewer tokens than blocks and many, lines of one token.
  for (const Size& size : {Size{2, 3, 5, 256},
                           {1, 1, 1, 768},
                           {3, 5, 7, 768},
                           {1, 40, 1, 1024},
                           {2, 1, 33, 384},
                           {5, 14, 14, 640},
                           {2, 4, 3, 192},
                           {2, 3, 3, 100}}) {
    for (const size_t mixes : {1, 2, 3}) {
      for (const Parts& parts : kEveryParts) {
        for (const Precision& precision : {kDouble, kFloat, kMixedBFloat16, kMixedHalf}) {
          for (const Through through : {Through::both, Through::x, Through::feed}) {
            if (through != Through::both && size.batch != 3) continue;
            SCOPED_TRACE(c10::str(precision.value, " B ", size.batch, " grid ", size.height, "x", size.width, " C ",
                                  size.channels, " mixes ", mixes, " gated ", parts.gated, " normed ", parts.normed,
                                  " masked ", parts.masked, " through ", static_cast<int>(through)));
            const Inputs in = inputs(size, mixes, parts, precision);
            expect_close(with_gradients(in.to(at::kCPU, kDouble), reference, through), with_gradients(in, run, through),
                         precision);
          }
        }
      }
    }
  }
}

TEST_P(ResidualMix, IsAsGoodAsTheOperatorsThatItIsMadeOf) {
  at::manual_seed(2);
  const Size size = GetParam().is_cuda() ? Size{40, 14, 14, 768} : Size{2, 5, 4, 768};
  for (const Parts& parts : kEveryParts) {
    for (const size_t mixes : {2, 3}) {
      const Inputs in = inputs(size, mixes, parts);
      expect_close(with_gradients(in, composed), with_gradients(in, run), kMixedBFloat16);
    }
  }
}

TEST_P(ResidualMix, GivesEqualBitsInEveryRunAndUnderAutocast) {
  at::manual_seed(3);
  const Inputs in = inputs({7, 9, 11, 384}, 3, kAllParts);
  const Tensors expected = with_gradients(in, run);
  const auto expect_equal = [&] {
    const Tensors actual = with_gradients(in, run);
    for (size_t i = 0; i < expected.size(); ++i) EXPECT_TRUE(at::equal(expected[i], actual[i])) << i;
  };
  for (int i = 0; i < 3; ++i) expect_equal();
  const AutocastGuard autocast(GetParam().type(), at::kBFloat16);
  expect_equal();
}

TEST_P(ResidualMix, TakesAnyMemoryLayoutAndUnalignedTensors) {
  at::manual_seed(4);
  const auto unaligned = [](const at::Tensor& tensor) {
    return at::empty({tensor.numel() + 1}, tensor.options()).slice(0, 1).view_as(tensor).copy_(tensor);
  };
  const auto strided = [](const at::Tensor& tensor) { return tensor.transpose(0, 1).contiguous().transpose(0, 1); };
  const Inputs in = inputs({3, 5, 7, 256}, 2, kAllParts);
  Inputs moved = in;
  moved.x = strided(in.x);
  moved.gy = unaligned(in.gy);
  moved.gmixed = {unaligned(in.gmixed[0]), strided(in.gmixed[1])};
  moved.narrow = {unaligned(in.narrow[0]), strided(in.narrow[1])};
  moved.mask = in.mask.view({-1});
  for (at::Tensor& parameter : moved.parameters) parameter = unaligned(parameter);
  expect_close(with_gradients(in, run), with_gradients(moved, run), kFloat);
}

TEST_P(ResidualMix, KeepsNaNWhereTheFormulaHasIt) {
  at::manual_seed(5);
  Inputs in = inputs({2, 5, 7, 256}, 3, {true, true, true, false});
  const float nan = std::numeric_limits<float>::quiet_NaN();
  in.gmixed[1][1][17][100] = nan;
  in.gy[0][3][255] = nan;
  in.narrow[1][0][30][7] = nan;
  const Tensors expected = with_gradients(in, composed), actual = with_gradients(in, run);
  for (size_t i = 0; i < expected.size(); ++i) EXPECT_TRUE(at::equal(expected[i].isnan(), actual[i].isnan())) << i;
}

/// The kernel may start beside the one before it; what that one and those before it wrote must be there all the same.
TEST_P(ResidualMix, ReadsWhatWasWrittenJustBefore) {
  at::manual_seed(6);
  const Size size = GetParam().is_cuda() ? Size{16, 14, 14, 768} : Size{1, 2, 2, 256};
  std::vector<Inputs> given;
  std::vector<Tensors> expected;
  for (int i = 0; i < 2; ++i) {
    given.push_back(inputs(size, 3, kAllParts));
    expected.push_back(with_gradients(given.back(), run));
  }
  Inputs in = given[0];
  const auto all = [](Inputs& of) {
    Tensors tensors{of.x, of.mask, of.gy};
    for (const Tensors* more : {&of.narrow, &of.parameters, &of.gmixed}) {
      tensors.insert(tensors.end(), more->begin(), more->end());
    }
    return tensors;
  };
  for (Tensors* tensors : {&in.narrow, &in.parameters, &in.gmixed}) {
    for (at::Tensor& tensor : *tensors) tensor = tensor.clone();
  }
  in.x = in.x.clone();
  in.mask = in.mask.clone();
  in.gy = in.gy.clone();
  for (size_t i = 1; i < 6; ++i) {
    const Tensors from = all(given[i % 2]), to = all(in);
    for (size_t j = 0; j < to.size(); ++j) to[j].copy_(from[j]);
    const Tensors actual = with_gradients(in, run);
    for (size_t j = 0; j < actual.size(); ++j) EXPECT_TRUE(at::equal(expected[i % 2][j], actual[j])) << i << " " << j;
  }
}

TEST_P(ResidualMix, ComputesOnlyTheGradientsThatAreAskedFor) {
  at::manual_seed(7);
  const Inputs in = inputs({2, 3, 5, 256}, 2, kAllParts);
  const Tensors whole = with_gradients(in, run);
  Inputs one = in;
  one.mask = one.mask.detach().requires_grad_();
  one.narrow[0] = one.narrow[0].detach().requires_grad_();
  const Tensors results = run(one);
  const Tensors computed =
      torch::autograd::grad(results, {one.narrow[0], one.mask}, {in.gy, in.gmixed[0], in.gmixed[1]}, std::nullopt,
                            /*create_graph=*/false, /*allow_unused=*/true);
  EXPECT_TRUE(close("value", whole[4], computed[0], 1e-6));
  EXPECT_FALSE(computed[1].defined());
}

TEST_P(ResidualMix, AcceptsNoImages) {
  const Inputs in = inputs({0, 2, 3, 256}, 2, kAllParts);
  const Tensors results = with_gradients(in, run);
  EXPECT_EQ(results[0].sizes(), in.x.sizes());
  EXPECT_EQ(results.back().sizes(), in.parameters.back().sizes());
}

TEST_P(ResidualMix, NamesWhatIsWrongWithItsArguments) {
  const Inputs good = inputs({2, 2, 3, 256}, 2, kAllParts);
  const auto expect_error = [&](const auto& spoil, const std::string& text) {
    Inputs bad = good;
    bad.x = bad.x.detach().requires_grad_();
    spoil(bad);
    try {
      run(bad);
      ADD_FAILURE() << "no error: " << text;
    } catch (const c10::Error& error) {
      const std::string message = error.what_without_backtrace();
      EXPECT_NE(message.find(text), std::string::npos) << "'" << text << "' not in: " << message;
    }
  };
  expect_error([](Inputs& in) { in.narrow[0] = in.narrow[0].slice(1, 0, 5); },
               "value must have the shape of x, [2, 6, 256], got [2, 5, 256]");
  expect_error([](Inputs& in) { in.narrow[1] = in.narrow[1].to(at::kDouble); }, "gate must have the dtype of value");
  expect_error([](Inputs& in) { in.mask = in.mask.slice(0, 1); }, "mask must have B = 2 elements, got [1, 1, 1]");
  expect_error([](Inputs& in) { in.size.height = 4; }, "height * width");
  expect_error([](Inputs& in) { in.parameters[1] = in.parameters[1].slice(2, 1); }, "mixes");
}

}  // namespace
}  // namespace vrwkv::testing

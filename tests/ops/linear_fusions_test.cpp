// token_shift_linear, channel_mix and linear_residual_channel_mix against their formulas, with and without gradients:
// compositions, or on a GPU with wgmma one kernel each, or two.

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <limits>

#include "ops/channel_mix.h"
#include "ops/linear_residual_channel_mix.h"
#include "ops/token_shift_linear.h"
#include "tests/support/assert_close.h"
#include "tests/support/devices.h"
#include "vrwkv/autocast.h"

namespace vrwkv::testing {
namespace {

using Tensors = std::vector<at::Tensor>;
constexpr double kEps = 1e-5;

struct Size {
  int64_t batch, height, width, channels, hidden;

  int64_t tokens() const { return height * width; }
  std::string text() const {
    return c10::str("B ", batch, " grid ", height, "x", width, " C ", channels, " H ", hidden);
  }
};

/// Sizes that the kernels take (192 channels), with tiles that are full, broken and nearly empty, and others.
const std::vector<Size>& sizes() {
  static const std::vector<Size> all{
      {1, 1, 1, 192, 64},   {1, 1, 7, 192, 128},   {2, 14, 14, 192, 768}, {3, 5, 7, 192, 192}, {1, 32, 33, 192, 768},
      {130, 2, 3, 192, 64}, {1, 129, 1, 192, 768}, {2, 3, 4, 64, 256},    {2, 3, 3, 192, 96},  {600, 7, 9, 192, 768}};
  return all;
}

at::Tensor tokens_of(const Size& size) { return at::randn({size.batch, size.tokens(), size.channels}, at::kDouble); }

at::Tensor matrix(int64_t rows, int64_t columns) {
  return at::randn({rows, columns}, at::kDouble) / std::sqrt(static_cast<double>(columns));
}

/// x [B, T, C] whose channels' quarters come from the left, right, upper and lower neighbour.
at::Tensor shifted(const at::Tensor& x, const Size& size) {
  const at::Tensor map = x.view({size.batch, size.height, size.width, size.channels});
  const at::Tensor padded = at::constant_pad_nd(map, {0, 0, 1, 1, 1, 1});
  const auto moved = [&](int64_t row, int64_t column, int64_t quarter) {
    return padded.slice(1, 1 + row, 1 + row + size.height)
        .slice(2, 1 + column, 1 + column + size.width)
        .slice(3, size.channels * quarter / 4, size.channels * (quarter + 1) / 4);
  };
  return at::cat({moved(0, -1, 0), moved(0, 1, 1), moved(-1, 0, 2), moved(1, 0, 3)}, 3).view(x.sizes());
}

at::Tensor mix_of(const at::Tensor& n, const at::Tensor& m, const Size& size) {
  return n * m + shifted(n, size) * (1 - m);
}

at::Tensor standardized(const at::Tensor& x) {
  const at::Tensor centred = x - x.mean(2, true);
  return centred / (centred.square().mean(2, true) + kEps).sqrt();
}

/// One call's arguments. Random weights make results of the size of 1.
struct Inputs {
  Size size;
  at::Tensor x, feed, weight, bias, mix_k, mix_v, mix_r, key, value, receptance, output;

  explicit Inputs(const Size& of)
      : size(of),
        x(tokens_of(of)),
        feed(tokens_of(of)),
        weight(at::rand({of.channels}, at::kDouble) + 0.5),
        bias(at::randn({of.channels}, at::kDouble)),
        mix_k(at::rand({1, 1, of.channels}, at::kDouble)),
        mix_v(at::rand({of.channels}, at::kDouble)),
        mix_r(at::rand({1, 1, of.channels}, at::kDouble)),
        key(matrix(of.hidden, of.channels)),
        value(matrix(of.channels, of.hidden)),
        receptance(matrix(of.channels, of.channels)),
        output(matrix(of.channels, of.channels)) {}

  Tensors parameters() const { return {weight, bias, mix_k, mix_v, mix_r, key, value, receptance, output}; }

  /// x and the parameters in `wide`, the feed in `narrow`.
  Inputs to(at::Device device, at::ScalarType wide, at::ScalarType narrow) const {
    Inputs moved = *this;
    for (at::Tensor* tensor : moved.all()) *tensor = tensor->to(device, wide);
    moved.feed = feed.to(device, narrow);
    return moved;
  }

  ops::ChannelMixParameters channel_mix(bool affine) const {
    return {.mix_k = mix_k,
            .mix_r = mix_r,
            .key = key,
            .receptance = receptance,
            .value = value,
            .norm_weight = affine ? weight : at::Tensor(),
            .norm_bias = affine ? bias : at::Tensor()};
  }

  std::vector<at::Tensor*> all() {
    return {&x, &feed, &weight, &bias, &mix_k, &mix_v, &mix_r, &key, &value, &receptance, &output};
  }
};

struct Results {
  Tensors projected;
  ops::ResidualOutput mixed, joined;
};

/// What a channel mix reads of the sum before it.
ops::Feed feed_between(bool affine) { return affine ? ops::Feed::standardized : ops::Feed::cast; }

Results run(const Inputs& in, bool affine, ops::Feed feed) {
  const auto weight = affine ? std::optional(in.weight) : std::nullopt;
  const auto bias = affine ? std::optional(in.bias) : std::nullopt;
  const ops::ChannelMixParameters parameters = in.channel_mix(affine);
  return {ops::token_shift_linear(in.feed, {in.mix_k, in.mix_v, in.mix_r}, {in.output, in.receptance, in.output},
                                  weight, bias, in.size.height, in.size.width),
          ops::channel_mix(in.x, in.feed, parameters, in.size.height, in.size.width, feed, kEps),
          ops::linear_residual_channel_mix(in.x, in.feed, in.output, parameters, in.size.height, in.size.width,
                                           feed_between(affine), feed, kEps)};
}

Results reference(const Inputs& in, bool affine, ops::Feed feed) {
  const auto mixed = [&](const at::Tensor& of, const at::Tensor& m) {
    return mix_of(affine ? of * in.weight + in.bias : of, m, in.size);
  };
  const auto fed = [](const at::Tensor& y, ops::Feed kind) {
    return kind == ops::Feed::standardized ? standardized(y) : y;
  };
  const auto channel_mix = [&](const at::Tensor& x, const at::Tensor& of) -> ops::ResidualOutput {
    const at::Tensor hidden = at::matmul(mixed(of, in.mix_k), in.key.t()).clamp_min(0).square();
    const at::Tensor gate = at::sigmoid(at::matmul(mixed(of, in.mix_r), in.receptance.t()));
    const at::Tensor y = x + at::matmul(hidden, in.value.t()) * gate;
    return {y, fed(y, feed)};
  };
  const at::Tensor between = in.x + at::matmul(in.feed, in.output.t());
  return {{at::matmul(mixed(in.feed, in.mix_k), in.output.t()), at::matmul(mixed(in.feed, in.mix_v), in.receptance.t()),
           at::matmul(mixed(in.feed, in.mix_r), in.output.t())},
          channel_mix(in.x, in.feed),
          channel_mix(between, fed(between, feed_between(affine)))};
}

void expect_sum(const std::string& name, const ops::ResidualOutput& expected, const ops::ResidualOutput& actual,
                const at::Tensor& x, ops::Feed feed, double tolerance) {
  // What is added, not the sum, in which x would hide an error.
  const at::Tensor from = x.to(at::kCPU, at::kDouble);
  EXPECT_TRUE(close(name + " z", expected.x - from, actual.x.to(at::kCPU, at::kDouble) - from, tolerance));
  if (feed == ops::Feed::none) {
    EXPECT_FALSE(actual.feed.defined());
  } else {
    EXPECT_TRUE(close(name + " feed", expected.feed, actual.feed, tolerance));
  }
}

void expect_results(const Results& expected, const Results& actual, const at::Tensor& x, ops::Feed feed,
                    double tolerance) {
  ASSERT_EQ(actual.projected.size(), 3);
  for (size_t j = 0; j < 3; ++j) {
    EXPECT_TRUE(close("projected " + std::to_string(j), expected.projected[j], actual.projected[j], tolerance));
  }
  expect_sum("channel_mix", expected.mixed, actual.mixed, x, feed, tolerance);
  expect_sum("linear_residual_channel_mix", expected.joined, actual.joined, x, feed, tolerance);
}

class LinearFusions : public ::testing::TestWithParam<at::Device> {};

INSTANTIATE_TEST_SUITE_P(Devices, LinearFusions, ::testing::ValuesIn(devices()), device_name);

TEST_P(LinearFusions, MatchTheFormulasWithoutGradients) {
  at::manual_seed(1);
  const at::NoGradGuard no_grad;
  struct Precision {
    at::ScalarType wide, narrow;
    double tolerance;
  };
  for (const Size& size : sizes()) {
    for (const auto& [wide, narrow, tolerance] : {Precision{at::kDouble, at::kDouble, 1e-12},
                                                  {at::kFloat, at::kFloat, 1e-5},
                                                  {at::kFloat, at::kBFloat16, 1e-2}}) {
      if (!GetParam().is_cuda() && size.batch > 200) continue;  // Its tiles are what matters.
      for (const ops::Feed feed : {ops::Feed::none, ops::Feed::cast, ops::Feed::standardized}) {
        const bool affine = feed != ops::Feed::cast;
        SCOPED_TRACE(c10::str(size.text(), " ", wide, " ", narrow, " feed ", static_cast<int>(feed)));
        const Inputs inputs = Inputs(size).to(GetParam(), wide, narrow);
        expect_results(reference(inputs.to(at::kCPU, at::kDouble, at::kDouble), affine, feed),
                       run(inputs, affine, feed), inputs.x, feed, tolerance);
      }
    }
  }
}

TEST_P(LinearFusions, GiveTheSameUnderAutocastAndWithWeightsAlreadyRounded) {
  at::manual_seed(2);
  const at::NoGradGuard no_grad;
  const Inputs inputs = Inputs({2, 14, 14, 192, 768}).to(GetParam(), at::kFloat, at::kBFloat16);
  const Results plain = run(inputs, true, ops::Feed::standardized);
  Inputs rounded = inputs;
  for (at::Tensor* weight : {&rounded.key, &rounded.value, &rounded.receptance, &rounded.output}) {
    *weight = weight->to(at::kBFloat16);
  }
  const auto expect_equal = [&](const Results& other) {
    for (size_t j = 0; j < 3; ++j) EXPECT_TRUE(at::equal(plain.projected[j], other.projected[j]));
    EXPECT_TRUE(at::equal(plain.mixed.x, other.mixed.x));
    EXPECT_TRUE(at::equal(plain.mixed.feed, other.mixed.feed));
    EXPECT_TRUE(at::equal(plain.joined.x, other.joined.x));
    EXPECT_TRUE(at::equal(plain.joined.feed, other.joined.feed));
  };
  expect_equal(run(rounded, true, ops::Feed::standardized));
  expect_equal(run(inputs, true, ops::Feed::standardized));  // Equal bits in every run.
  const AutocastGuard autocast(GetParam().type(), at::kBFloat16);
  expect_equal(run(inputs, true, ops::Feed::standardized));
}

/// A kernel may start beside the one before it; what that one and those before it wrote must be there all the same.
TEST_P(LinearFusions, ReadWhatWasWrittenJustBefore) {
  at::manual_seed(8);
  const at::NoGradGuard no_grad;
  const Size size = GetParam().is_cuda() ? Size{8, 64, 64, 192, 768} : Size{1, 4, 4, 192, 64};
  std::vector<Inputs> given;
  std::vector<Results> expected;
  for (int i = 0; i < 2; ++i) {
    given.push_back(Inputs(size).to(GetParam(), at::kFloat, at::kBFloat16));
    expected.push_back(run(given.back(), true, ops::Feed::standardized));
  }
  Inputs inputs = given[0];
  for (at::Tensor* tensor : inputs.all()) *tensor = tensor->clone();
  const auto held = inputs.all();
  for (size_t i = 1; i < 8; ++i) {
    const auto source = given[i % 2].all();
    for (size_t j = 0; j < held.size(); ++j) held[j]->copy_(*source[j]);
    const Results results = run(inputs, true, ops::Feed::standardized);
    for (size_t j = 0; j < 3; ++j) EXPECT_TRUE(at::equal(results.projected[j], expected[i % 2].projected[j])) << i;
    EXPECT_TRUE(at::equal(results.mixed.x, expected[i % 2].mixed.x)) << i;
    EXPECT_TRUE(at::equal(results.mixed.feed, expected[i % 2].mixed.feed)) << i;
    EXPECT_TRUE(at::equal(results.joined.x, expected[i % 2].joined.x)) << i;
    EXPECT_TRUE(at::equal(results.joined.feed, expected[i % 2].joined.feed)) << i;
  }
}

TEST_P(LinearFusions, TakeAnyMemoryLayoutAndUnalignedTensors) {
  at::manual_seed(3);
  const at::NoGradGuard no_grad;
  const Inputs inputs = Inputs({3, 5, 7, 192, 128}).to(GetParam(), at::kFloat, at::kBFloat16);
  Inputs moved = inputs;
  const at::Tensor storage = at::empty({inputs.feed.numel() + 1}, inputs.feed.options());
  storage.slice(0, 1).copy_(inputs.feed.flatten());
  moved.feed = storage.slice(0, 1).view(inputs.feed.sizes());
  moved.x = inputs.x.transpose(0, 1).contiguous().transpose(0, 1);
  moved.value = inputs.value.t().contiguous().t();
  const Results expected = run(inputs, true, ops::Feed::cast), actual = run(moved, true, ops::Feed::cast);
  EXPECT_TRUE(at::equal(expected.projected[1], actual.projected[1]));
  EXPECT_TRUE(close("mixed", expected.mixed.x, actual.mixed.x, 1e-6));
  EXPECT_TRUE(close("joined", expected.joined.x, actual.joined.x, 1e-6));
}

/// Tiles of the kernels have tokens of several images, and neighbours in memory are not always neighbours in an image.
TEST_P(LinearFusions, KeepNaNWithinItsImage) {
  at::manual_seed(9);
  const at::NoGradGuard no_grad;
  const Inputs clean = Inputs({3, 3, 5, 192, 64}).to(GetParam(), at::kFloat, at::kBFloat16);
  Inputs broken = clean;
  for (at::Tensor* tensor : {&broken.x, &broken.feed}) {
    *tensor = tensor->clone();
    (*tensor)[1].fill_(std::numeric_limits<double>::quiet_NaN());
  }
  const auto all = [](const Results& of) {
    Tensors tensors = of.projected;
    tensors.insert(tensors.end(), {of.mixed.x, of.mixed.feed, of.joined.x, of.joined.feed});
    return tensors;
  };
  const Tensors expected = all(run(clean, true, ops::Feed::standardized));
  const Tensors actual = all(run(broken, true, ops::Feed::standardized));
  for (size_t i = 0; i < expected.size(); ++i) {
    for (const int64_t image : {0, 2}) EXPECT_TRUE(at::equal(actual[i][image], expected[i][image])) << i;
    EXPECT_TRUE(actual[i][1].isnan().all().item<bool>()) << i;
  }
}

TEST_P(LinearFusions, DifferentiateThemselves) {
  at::manual_seed(4);
  const Inputs source = Inputs({2, 3, 4, 192, 64}).to(GetParam(), at::kDouble, at::kDouble);
  const auto gradients = [&](const auto& op, at::Device device) {
    Inputs inputs = source.to(device, at::kDouble, at::kDouble);
    Tensors leaves;
    for (at::Tensor* tensor : inputs.all()) {
      *tensor = tensor->detach().requires_grad_();
      leaves.push_back(*tensor);
    }
    const Results results = op(inputs, true, ops::Feed::standardized);
    at::Tensor loss = results.mixed.x.square().sum() + results.mixed.feed.sin().sum();
    loss = loss + results.joined.x.square().sum() + results.joined.feed.cos().sum();
    for (const at::Tensor& projected : results.projected) loss = loss + projected.pow(3).sum();
    return torch::autograd::grad({loss}, leaves);
  };
  const Tensors expected = gradients(reference, at::kCPU), actual = gradients(run, GetParam());
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_TRUE(close("gradient " + std::to_string(i), expected[i], actual[i], 1e-10));
  }
}

/// Gradients of token_shift_linear alone, in bfloat16 with float32 parameters; some of its results are not used.
TEST_P(LinearFusions, GiveShiftedLinearsGradientsInBfloat16) {
  at::manual_seed(6);
  for (const Size& size : sizes()) {
    if (size.channels != 192 || (!GetParam().is_cuda() && size.batch > 200)) continue;
    for (const int used : {0b111, 0b010}) {
      SCOPED_TRACE(c10::str(size.text(), " used ", used));
      const Inputs narrow = Inputs(size).to(GetParam(), at::kFloat, at::kBFloat16);
      const Tensors outer{tokens_of(size), tokens_of(size), tokens_of(size)};
      const auto gradients = [&](const auto& op, at::Device device, at::ScalarType wide, at::ScalarType feed) {
        Inputs inputs = narrow.to(device, wide, feed);
        Tensors leaves;
        for (at::Tensor* leaf : {&inputs.feed, &inputs.weight, &inputs.bias, &inputs.mix_k, &inputs.mix_v,
                                 &inputs.mix_r, &inputs.receptance, &inputs.output}) {
          *leaf = leaf->detach().requires_grad_();
          leaves.push_back(*leaf);
        }
        const Tensors projected = op(inputs);
        at::Tensor loss = at::zeros({}, projected[0].options().dtype(wide));
        for (size_t j = 0; j < 3; ++j) {
          if ((used >> j & 1) != 0) loss = loss + (projected[j].to(wide) * outer[j].to(device, wide)).sum();
        }
        return torch::autograd::grad({loss}, leaves, {}, std::nullopt, false, /*allow_unused=*/true);
      };
      const auto formula = [](const Inputs& in) { return reference(in, true, ops::Feed::none).projected; };
      const auto operation = [](const Inputs& in) {
        return ops::token_shift_linear(in.feed, {in.mix_k, in.mix_v, in.mix_r}, {in.output, in.receptance, in.output},
                                       in.weight, in.bias, in.size.height, in.size.width);
      };
      const Tensors expected = gradients(formula, at::kCPU, at::kDouble, at::kDouble);
      const Tensors actual = gradients(operation, GetParam(), at::kFloat, at::kBFloat16);
      const Tensors again = gradients(operation, GetParam(), at::kFloat, at::kBFloat16);
      for (size_t i = 0; i < expected.size(); ++i) {
        if (!expected[i].defined()) {  // Of what is not used there is no gradient, or zeros.
          EXPECT_FALSE(actual[i].defined() && actual[i].any().item<bool>()) << i;
          continue;
        }
        ASSERT_TRUE(actual[i].defined()) << i;
        EXPECT_TRUE(close("gradient " + std::to_string(i), expected[i], actual[i], 2e-2));
        EXPECT_TRUE(at::equal(actual[i], again[i])) << i;
      }
    }
  }
}

/// Outer gradients as slices of one tensor, which are not copied, and each on its own; mixes of any size.
TEST_P(LinearFusions, GiveShiftedLinearsGradientsWhereverTheOuterOnesLie) {
  at::manual_seed(7);
  for (const Size& size : {Size{2, 14, 14, 192, 64}, Size{3, 3, 5, 192, 64}, Size{1, 3, 140, 192, 64},
                           Size{2, 131, 2, 192, 64}, Size{1, 64, 64, 192, 64}}) {
    SCOPED_TRACE(size.text());
    Inputs inputs = Inputs(size).to(GetParam(), at::kFloat, at::kBFloat16);
    for (at::Tensor* mix : {&inputs.mix_k, &inputs.mix_v, &inputs.mix_r}) mix->sub_(0.5).mul_(6);
    const at::Tensor outer = at::randn({size.batch, size.tokens(), 3 * size.channels}, inputs.feed.options());
    const auto gradients = [&](const Inputs& of, const auto& op, const Tensors& of_results) {
      Inputs in = of;
      Tensors leaves;
      for (at::Tensor* leaf :
           {&in.feed, &in.weight, &in.bias, &in.mix_k, &in.mix_v, &in.mix_r, &in.receptance, &in.output}) {
        *leaf = leaf->detach().requires_grad_();
        leaves.push_back(*leaf);
      }
      return torch::autograd::grad(op(in), leaves, of_results);
    };
    const auto operation = [](const Inputs& in) {
      return ops::token_shift_linear(in.feed, {in.mix_k, in.mix_v, in.mix_r}, {in.output, in.receptance, in.output},
                                     in.weight, in.bias, in.size.height, in.size.width);
    };
    const auto formula = [](const Inputs& in) { return reference(in, true, ops::Feed::none).projected; };
    const Tensors slices = outer.chunk(3, -1);
    const Tensors expected =
        gradients(inputs.to(at::kCPU, at::kDouble, at::kDouble), formula, outer.to(at::kCPU, at::kDouble).chunk(3, -1));
    const Tensors of_slices = gradients(inputs, operation, slices);
    const Tensors of_copies =
        gradients(inputs, operation, {slices[0].clone(), slices[1].clone(), slices[2].contiguous()});
    for (size_t i = 0; i < expected.size(); ++i) {
      EXPECT_TRUE(close("gradient " + std::to_string(i), expected[i], of_slices[i], 1e-2));
      EXPECT_TRUE(at::equal(of_slices[i], of_copies[i])) << i;
    }
  }
}

TEST_P(LinearFusions, GiveGradientsOfParametersAloneToo) {
  // One parameter that asks for a gradient is enough to have one.
  at::manual_seed(5);
  Inputs inputs = Inputs({2, 3, 4, 192, 64}).to(GetParam(), at::kFloat, at::kBFloat16);
  for (at::Tensor* leaf : {&inputs.mix_v, &inputs.output, &inputs.key}) {
    *leaf = leaf->detach().requires_grad_();
    const Results results = run(inputs, true, ops::Feed::standardized);
    const at::Tensor sum =
        results.projected[0].sum() + results.projected[1].sum() + results.mixed.x.sum() + results.joined.x.sum();
    ASSERT_TRUE(sum.requires_grad());
    EXPECT_GT(torch::autograd::grad({sum}, {*leaf})[0].abs().sum().item<double>(), 0);
    *leaf = leaf->detach();
  }
}

TEST_P(LinearFusions, AcceptEmptyBatches) {
  const at::NoGradGuard no_grad;
  const Inputs inputs = Inputs({0, 2, 3, 192, 64}).to(GetParam(), at::kFloat, at::kBFloat16);
  const Results results = run(inputs, true, ops::Feed::standardized);
  EXPECT_EQ(results.projected[2].sizes(), inputs.x.sizes());
  EXPECT_EQ(results.mixed.feed.sizes(), inputs.x.sizes());
  EXPECT_EQ(results.joined.feed.sizes(), inputs.x.sizes());
}

/// Expects that `call` with `good` arguments after change(arguments) fails with `part` in what it says.
template <typename Change, typename Call>
void expect_error(const Inputs& good, const std::string& part, const Change& change, const Call& call) {
  Inputs bad = good;
  change(bad);
  try {
    call(bad);
    ADD_FAILURE() << "no error; expected: " << part;
  } catch (const c10::Error& error) {
    EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
  }
}

TEST_P(LinearFusions, NameWhatIsWrongWithTheirArguments) {
  const at::NoGradGuard no_grad;
  const Inputs good = Inputs({2, 2, 3, 192, 64}).to(GetParam(), at::kFloat, at::kBFloat16);
  const auto expect_error = [&](const std::string& part, const auto& change) {
    testing::expect_error(good, part, change, [](const Inputs& bad) { run(bad, true, ops::Feed::cast); });
  };
  expect_error("height * width", [](Inputs& bad) { bad.size.height = 5; });
  expect_error("weights[0] must be [D, C]", [](Inputs& bad) { bad.output = bad.output.slice(1, 0, 100); });
  expect_error("value must be [192, 64], got [192, 63]", [](Inputs& bad) { bad.value = bad.value.slice(1, 0, 63); });
  expect_error("receptance must be [192, 192]", [](Inputs& bad) { bad.receptance = bad.receptance.slice(0, 0, 191); });
  expect_error("value must have the shape of x", [](Inputs& bad) { bad.x = bad.x.slice(1, 0, 5); });
  expect_error("mixes[0] must be [C]", [](Inputs& bad) { bad.mix_k = bad.mix_k.slice(2, 0, 100); });
}

TEST_P(LinearFusions, NameWhatIsWrongWithJoinedArguments) {
  const at::NoGradGuard no_grad;
  const Inputs good = Inputs({2, 2, 3, 192, 64}).to(GetParam(), at::kFloat, at::kBFloat16);
  ops::Feed between = ops::Feed::standardized;
  const auto expect_error = [&](const std::string& part, const auto& change) {
    testing::expect_error(good, part, change, [&](const Inputs& bad) {
      ops::linear_residual_channel_mix(bad.x, bad.feed, bad.output, bad.channel_mix(true), bad.size.height,
                                       bad.size.width, between, ops::Feed::cast, kEps);
    });
  };
  expect_error("height * width", [](Inputs& bad) { bad.size.height = 5; });
  expect_error("weight must be [D, C], C = 192", [](Inputs& bad) { bad.output = bad.output.slice(1, 0, 100); });
  expect_error("value must be [192, 64], got [192, 63]", [](Inputs& bad) { bad.value = bad.value.slice(1, 0, 63); });
  expect_error("value must have the shape of x", [](Inputs& bad) { bad.x = bad.x.slice(1, 0, 5); });
  between = ops::Feed::none;
  expect_error("linear_residual_channel_mix: feed must be 1 (cast) or 2 (standardized), got 0", [](Inputs&) {});
}

}  // namespace
}  // namespace vrwkv::testing

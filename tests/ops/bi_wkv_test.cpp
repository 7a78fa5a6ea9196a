#include "ops/bi_wkv.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <set>

#include "tests/support/assert_close.h"
#include "tests/support/bi_wkv_reference.h"
#include "tests/support/devices.h"
#include "tests/support/golden.h"
#include "vrwkv/autocast.h"

namespace vrwkv::testing {
namespace {

/// One call's arguments, output gradient and, after run(), its results.
struct Case {
  at::Tensor w, u, k, v, gy;
  at::Tensor y, gw, gu, gk, gv;

  Case to(at::Device device, at::ScalarType dtype, at::ScalarType wu_dtype) const {
    return {w.to(device, wu_dtype),
            u.to(device, wu_dtype),
            k.to(device, dtype),
            v.to(device, dtype),
            gy.to(device, dtype),
            {},
            {},
            {},
            {},
            {}};
  }

  template <typename Op>
  void run(const Op& op) {
    for (auto* input : {&w, &u, &k, &v}) *input = input->detach().requires_grad_();
    y = op(w, u, k, v);
    const auto gradients = torch::autograd::grad({y}, {w, u, k, v}, {gy});
    gw = gradients[0];
    gu = gradients[1];
    gk = gradients[2];
    gv = gradients[3];
  }
};

void expect_equal_results(const Case& expected, const Case& actual, double tolerance, double gradient_tolerance) {
  EXPECT_TRUE(close("y", expected.y, actual.y, tolerance));
  EXPECT_TRUE(close("gw", expected.gw, actual.gw, gradient_tolerance));
  EXPECT_TRUE(close("gu", expected.gu, actual.gu, gradient_tolerance));
  EXPECT_TRUE(close("gk", expected.gk, actual.gk, gradient_tolerance));
  EXPECT_TRUE(close("gv", expected.gv, actual.gv, gradient_tolerance));
}

/// Random float64 inputs with |w T| up to `decay` and keys of standard deviation `key_scale`, at most 80.
Case random_case(int64_t batch, int64_t tokens, int64_t channels, double decay, double key_scale) {
  const auto options = at::TensorOptions(at::kDouble);
  const double reach = decay / static_cast<double>(tokens);
  return {(at::rand({channels}, options) * 2 - 1) * reach,
          at::randn({channels}, options),
          (at::randn({batch, tokens, channels}, options) * key_scale).clamp(-80, 80),
          at::randn({batch, tokens, channels}, options),
          at::randn({batch, tokens, channels}, options),
          {},
          {},
          {},
          {},
          {}};
}

/// Channels of every kind side by side: |w T| from `decay` / 1000 to `decay`, of either sign.
Case mixed_case(int64_t batch, int64_t tokens, int64_t channels, double decay, double key_scale) {
  Case inputs = random_case(batch, tokens, channels, 1.0, key_scale);
  const at::Tensor reach = decay * at::pow(10.0, at::rand_like(inputs.w) * -3) * (at::rand_like(inputs.w) - 0.5).sign();
  inputs.w = reach / static_cast<double>(tokens);
  return inputs;
}

bool equal_bits(const Case& x, const Case& y) {
  return at::equal(x.y, y.y) && at::equal(x.gw, y.gw) && at::equal(x.gu, y.gu) && at::equal(x.gk, y.gk) &&
         at::equal(x.gv, y.gv);
}

class BiWkv : public ::testing::TestWithParam<at::Device> {};

INSTANTIATE_TEST_SUITE_P(Devices, BiWkv, ::testing::ValuesIn(devices()), device_name);

TEST_P(BiWkv, MatchesTheGoldenValues) {
  const Safetensors golden = read_golden("biwkv.safetensors");
  std::set<std::string> names;
  for (const auto& [key, tensor] : golden.tensors) names.insert(key.substr(0, key.find('.')));
  ASSERT_EQ(names.size(), 7U);
  for (const auto& name : names) {
    const auto get = [&](const char* part) { return golden.tensors.at(name + "." + part); };
    const Case expected{get("w"), get("u"),  get("k"),  get("v"),  get("gy"),
                        get("y"), get("gw"), get("gu"), get("gk"), get("gv")};
    for (const auto dtype : {at::kDouble, at::kFloat}) {
      SCOPED_TRACE(name + " " + c10::toString(dtype));
      Case actual = expected.to(GetParam(), dtype, dtype);
      actual.run(ops::bi_wkv);
      const bool exact = dtype == at::kDouble;
      expect_equal_results(expected, actual, exact ? 1e-12 : 1e-5, exact ? 1e-12 : 1e-4);
    }
  }
}

TEST_P(BiWkv, MatchesTheFormulaAtAwkwardShapesAndExtremes) {
  at::manual_seed(1);
  for (const int64_t tokens : {1, 2, 15, 16, 17, 31, 33, 64, 197}) {
    for (const int64_t channels : {1, 3, 8, 33}) {
      for (const auto& [decay, key_scale] : {std::pair{1.0, 1.0}, {20.0, 1.0}, {60.0, 30.0}, {0.0, 80.0}}) {
        SCOPED_TRACE(c10::str("T ", tokens, " C ", channels, " |wT| ", decay, " k ", key_scale));
        Case expected = random_case(2, tokens, channels, decay, key_scale);
        Case actual = expected.to(GetParam(), at::kDouble, at::kDouble);
        expected.run(bi_wkv_reference);
        actual.run(ops::bi_wkv);
        expect_equal_results(expected, actual, 1e-12, 1e-10);
      }
    }
  }
}

TEST_P(BiWkv, IsExactToReducedPrecision) {
  at::manual_seed(2);
  struct Precision {
    at::ScalarType dtype;
    double tolerance, gradient_tolerance;
  };
  for (const auto& precision :
       {Precision{at::kFloat, 1e-5, 1e-4}, {at::kBFloat16, 1e-2, 1e-2}, {at::kHalf, 1e-3, 2e-3}}) {
    for (const int64_t tokens : {1, 33, 196, 1024, 4100}) {
      SCOPED_TRACE(c10::str(precision.dtype, " T ", tokens));
      // The reference sees the inputs after rounding: only the op's own error counts.
      const Case rounded = random_case(1, tokens, 24, 5.0, 1.0).to(GetParam(), precision.dtype, at::kFloat);
      const bool is_long = tokens > 1024;  // Of which the formula takes too much memory; the op's own float64 does not.
      Case expected = rounded.to(is_long ? GetParam() : at::Device(at::kCPU), at::kDouble, at::kDouble);
      Case actual = rounded;
      if (is_long) {
        expected.run(ops::bi_wkv);
      } else {
        expected.run(bi_wkv_reference);
      }
      actual.run(ops::bi_wkv);
      EXPECT_EQ(actual.y.scalar_type(), precision.dtype);
      EXPECT_EQ(actual.gw.scalar_type(), at::kFloat);
      expect_equal_results(expected, actual, precision.tolerance, precision.gradient_tolerance);
    }
  }
}

TEST_P(BiWkv, StaysExactOverLongSequences) {
  at::manual_seed(3);
  for (const double decay : {-60.0, 0.0, 60.0}) {
    SCOPED_TRACE(decay);
    Case inputs = random_case(1, 16384, 4, 0.0, 1.0);
    inputs.w.fill_(decay / 16384.0);
    // In float32 against the op's own float64, which the tests above hold against the formula. The reference gets the
    // float32 values, so that only the op's error is measured.
    Case actual = inputs.to(GetParam(), at::kFloat, at::kFloat);
    Case expected = actual.to(GetParam(), at::kDouble, at::kDouble);
    expected.run(ops::bi_wkv);
    actual.run(ops::bi_wkv);
    EXPECT_TRUE(close("y", expected.y, actual.y, 1e-5));
    EXPECT_TRUE(close("gk", expected.gk, actual.gk, 1e-4));
    EXPECT_TRUE(close("gv", expected.gv, actual.gv, 1e-4));
    EXPECT_TRUE(close("gu", expected.gu, actual.gu, 1e-4));
    EXPECT_TRUE(close("gw", expected.gw, actual.gw, 2e-3));
  }
}

TEST_P(BiWkv, GradientsMatchFiniteDifferences) {
  at::manual_seed(4);
  Case inputs = random_case(2, 7, 3, 6.0, 1.0).to(GetParam(), at::kDouble, at::kDouble);
  inputs.run(ops::bi_wkv);
  const double h = 1e-6;
  const auto check = [&](const char* name, at::Tensor& input, const at::Tensor& gradient) {
    const at::Tensor numeric = at::zeros_like(input);
    for (int64_t i = 0; i < input.numel(); ++i) {
      const at::Tensor original = input;
      double value[2];
      for (const int sign : {0, 1}) {
        input = original.detach().clone();
        input.view(-1)[i] += sign == 0 ? h : -h;
        value[sign] = (ops::bi_wkv(inputs.w, inputs.u, inputs.k, inputs.v) * inputs.gy).sum().item<double>();
      }
      input = original;
      numeric.view(-1)[i] = (value[0] - value[1]) / (2 * h);
    }
    EXPECT_TRUE(close(name, numeric, gradient, 1e-7));
  };
  const at::NoGradGuard no_grad;
  check("gw", inputs.w, inputs.gw);
  check("gu", inputs.u, inputs.gu);
  check("gk", inputs.k, inputs.gk);
  check("gv", inputs.v, inputs.gv);
}

TEST_P(BiWkv, TakesAnyMemoryLayout) {
  at::manual_seed(5);
  const Case base = random_case(3, 20, 10, 3.0, 1.0).to(GetParam(), at::kDouble, at::kDouble);
  Case strided = base;
  strided.k = base.k.transpose(1, 2).contiguous().transpose(1, 2);
  strided.v = at::stack({base.v, base.v}, -1).select(-1, 1);
  strided.gy = base.gy.select(0, 0).unsqueeze(0).expand_as(base.gy);
  strided.w = at::stack({base.w, base.w}, 1).select(1, 0);
  ASSERT_FALSE(strided.k.is_contiguous() || strided.v.is_contiguous() || strided.gy.is_contiguous());
  Case expected = base;
  expected.gy = strided.gy.contiguous();
  expected.run(ops::bi_wkv);
  strided.run(ops::bi_wkv);
  expect_equal_results(expected, strided, 1e-15, 1e-15);
}

TEST_P(BiWkv, AcceptsEmptyBatchesAndChannels) {
  for (const auto& [batch, channels] : {std::pair<int64_t, int64_t>{0, 5}, {2, 0}}) {
    Case empty = random_case(batch, 4, channels, 1.0, 1.0).to(GetParam(), at::kFloat, at::kFloat);
    empty.run(ops::bi_wkv);
    EXPECT_EQ(empty.y.sizes(), empty.k.sizes());
    EXPECT_EQ(empty.gk.sizes(), empty.k.sizes());
    EXPECT_TRUE(at::equal(empty.gw, at::zeros_like(empty.w)));
  }
}

TEST_P(BiWkv, GivesEqualBitsInEveryRun) {
  at::manual_seed(6);
  Case first = random_case(5, 300, 70, 10.0, 2.0).to(GetParam(), at::kFloat, at::kFloat);
  Case second = first;
  first.run(ops::bi_wkv);
  second.run(ops::bi_wkv);
  EXPECT_TRUE(equal_bits(first, second));
}

TEST_P(BiWkv, GivesEqualBitsForAnyNumberOfThreads) {
  at::manual_seed(12);
  Case first = mixed_case(3, 60, 70, 60.0, 2.0).to(GetParam(), at::kFloat, at::kFloat);
  Case second = first;
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  first.run(ops::bi_wkv);
  at::set_num_threads(2);
  second.run(ops::bi_wkv);
  at::set_num_threads(threads);
  EXPECT_TRUE(equal_bits(first, second));
}

TEST_P(BiWkv, LetsAMaskedTokenVanish) {
  at::manual_seed(7);
  Case inputs = random_case(1, 12, 4, 2.0, 1.0).to(GetParam(), at::kDouble, at::kDouble);
  inputs.k.select(1, 5).fill_(-std::numeric_limits<double>::infinity());
  const at::Tensor y = ops::bi_wkv(inputs.w, inputs.u, inputs.k, inputs.v);
  inputs.v.select(1, 5).fill_(1e6);
  EXPECT_TRUE(y.isfinite().all().item<bool>());
  EXPECT_TRUE(at::equal(y, ops::bi_wkv(inputs.w, inputs.u, inputs.k, inputs.v)));
}

TEST_P(BiWkv, PropagatesNaNInsteadOfHidingIt) {
  Case inputs = random_case(1, 8, 2, 1.0, 1.0).to(GetParam(), at::kFloat, at::kFloat);
  for (const bool in_key : {false, true}) {
    const at::Tensor k = inputs.k.clone(), v = inputs.v.clone();
    (in_key ? k : v)[0][3][1] = std::numeric_limits<float>::quiet_NaN();
    const at::Tensor y = ops::bi_wkv(inputs.w, inputs.u, k, v);
    EXPECT_TRUE(y.select(2, 1).isnan().all().item<bool>());
    EXPECT_TRUE(y.select(2, 0).isfinite().all().item<bool>());
  }
}

TEST_P(BiWkv, RunsInReducedPrecisionUnderAutocast) {
  at::manual_seed(8);
  Case inputs = random_case(2, 30, 16, 3.0, 1.0).to(GetParam(), at::kFloat, at::kFloat);
  Case plain = inputs;
  plain.run(ops::bi_wkv);
  {
    const AutocastGuard autocast(GetParam().type(), at::kBFloat16);
    inputs.run(ops::bi_wkv);
  }
  EXPECT_EQ(inputs.y.scalar_type(), at::kBFloat16);
  EXPECT_EQ(inputs.gk.scalar_type(), at::kFloat);
  expect_equal_results(plain, inputs, 1e-2, 2e-2);
}

/// The largest |w T| + |u| with which the CPU keeps all sums of a channel in one frame is 32 in float32: the first
/// decay stays below it, the second has channels on either side.
TEST_P(BiWkv, TakesDecaysOfEveryReachSideBySide) {
  at::manual_seed(9);
  for (const int64_t tokens : {1, 2, 31, 33, 196, 197, 1024}) {
    const int64_t batch = tokens == 2 ? 16 : 1;  // of two tokens most gradients vanish
    for (const int64_t channels : {5, 37, 97}) {
      if (tokens > 197 && channels > 37) continue;  // the reference is quadratic in the tokens
      for (const auto& [decay, key_scale] : {std::pair{25.0, 1.0}, {25.0, 40.0}, {60.0, 1.0}, {60.0, 40.0}}) {
        SCOPED_TRACE(c10::str("T ", tokens, " C ", channels, " |wT| ", decay, " k ", key_scale));
        const Case rounded = mixed_case(batch, tokens, channels, decay, key_scale).to(at::kCPU, at::kFloat, at::kFloat);
        Case expected = rounded.to(at::kCPU, at::kDouble, at::kDouble);
        Case exact = expected.to(GetParam(), at::kDouble, at::kDouble);
        Case actual = rounded.to(GetParam(), at::kFloat, at::kFloat);
        expected.run(bi_wkv_reference);
        exact.run(ops::bi_wkv);
        actual.run(ops::bi_wkv);
        expect_equal_results(expected, exact, 1e-12, 1e-10);
        // Beyond the frame one rounding of an exponent near 100 is already 8e-6, and gradients are differences.
        expect_equal_results(expected, actual, 1e-5, decay > 32 ? 2e-3 : 1e-4);
      }
    }
  }
}

TEST_P(BiWkv, GivesAChannelWhatItGetsAlone) {
  at::manual_seed(10);
  Case inputs = mixed_case(2, 50, 40, 500.0, 5.0).to(GetParam(), at::kDouble, at::kDouble);
  inputs.run(ops::bi_wkv);
  for (const int64_t c : {0, 7, 8, 31, 39}) {
    const auto only = [&](const at::Tensor& x) { return x.narrow(-1, c, 1); };
    Case alone{only(inputs.w), only(inputs.u), only(inputs.k), only(inputs.v), only(inputs.gy), {}, {}, {}, {}, {}};
    alone.run(ops::bi_wkv);
    const Case expected{
        {}, {}, {}, {}, {}, only(inputs.y), only(inputs.gw), only(inputs.gu), only(inputs.gk), only(inputs.gv)};
    expect_equal_results(expected, alone, 1e-12, 1e-10);
  }
}

TEST_P(BiWkv, TakesValuesOfAnySize) {
  at::manual_seed(11);
  // On CUDA the sums of float32 have e^{+-40} of float32's range to themselves (ops/bi_wkv.h).
  const double reach = GetParam().is_cuda() ? 1e18 : 1e30;
  for (const double size : {1 / reach, 1e-15, 1e15, reach}) {
    SCOPED_TRACE(size);
    Case inputs = random_case(1, 40, 20, 30.0, 2.0);
    inputs.v = inputs.v * size;
    const Case rounded = inputs.to(GetParam(), at::kFloat, at::kFloat);
    Case expected = rounded.to(at::kCPU, at::kDouble, at::kDouble);
    expected.run(bi_wkv_reference);
    EXPECT_LE(relative_error(expected.y, ops::bi_wkv(rounded.w, rounded.u, rounded.k, rounded.v)), 1e-5);
  }
}

/// Keys that are all large or small, about the bounds beyond which the CPU's sums are relative to the largest key.
TEST_P(BiWkv, TakesKeysOfAnySize) {
  at::manual_seed(13);
  for (const double shift : {-100.0, -7.0, -5.0, 12.0, 14.0, 100.0}) {
    SCOPED_TRACE(shift);
    Case inputs = random_case(2, 40, 41, 20.0, 1.0);
    inputs.k = inputs.k + shift;
    const Case rounded = inputs.to(GetParam(), at::kFloat, at::kFloat);
    Case expected = rounded.to(at::kCPU, at::kDouble, at::kDouble);
    Case actual = rounded;
    expected.run(bi_wkv_reference);
    actual.run(ops::bi_wkv);
    expect_equal_results(expected, actual, 1e-5, 1e-4);
  }
}

/// Results of 16 MiB and more are written past the CPU's caches.
TEST_P(BiWkv, GivesTheSameInLargeBatches) {
  at::manual_seed(14);
  for (const int64_t channels : {192, 186}) {
    SCOPED_TRACE(channels);
    Case all = random_case(128, 196, channels, 5.0, 1.0).to(GetParam(), at::kFloat, at::kFloat);
    all.run(ops::bi_wkv);
    for (const int64_t first : {0, 64}) {
      const auto half = [&](const at::Tensor& x) { return x.narrow(0, first, 64); };
      Case alone{all.w, all.u, half(all.k), half(all.v), half(all.gy), {}, {}, {}, {}, {}};
      alone.run(ops::bi_wkv);
      EXPECT_TRUE(close("y", half(all.y), alone.y, 1e-6));
      EXPECT_TRUE(close("gk", half(all.gk), alone.gk, 1e-6));
      EXPECT_TRUE(close("gv", half(all.gv), alone.gv, 1e-6));
    }
  }
}

TEST_P(BiWkv, RefusesToDifferentiateItsGradient) {
  Case inputs = random_case(1, 4, 2, 1.0, 1.0).to(GetParam(), at::kDouble, at::kDouble);
  inputs.k.requires_grad_();
  const at::Tensor y = ops::bi_wkv(inputs.w, inputs.u, inputs.k, inputs.v);
  const auto gk = torch::autograd::grad({y.sum()}, {inputs.k}, {}, /*retain_graph=*/true, /*create_graph=*/true)[0];
  EXPECT_THROW(torch::autograd::grad({gk.sum()}, {inputs.k}), c10::Error);
}

/// The first line of the error that `call` raises.
template <typename F>
std::string message_of(const F& call) {
  try {
    call();
  } catch (const c10::Error& error) {
    return error.what_without_backtrace();
  }
  return "no error";
}

TEST_P(BiWkv, NamesWhatIsWrongWithItsArguments) {
  const Case good = random_case(2, 6, 4, 1.0, 1.0).to(GetParam(), at::kFloat, at::kFloat);
  const auto message = [&](const at::Tensor& w, const at::Tensor& u, const at::Tensor& k, const at::Tensor& v) {
    return message_of([&] { ops::bi_wkv(w, u, k, v); });
  };
  const auto contains = [](const std::string& text, const std::string& part) {
    return text.find(part) == std::string::npos ? ::testing::AssertionFailure() << "'" << part << "' not in: " << text
                                                : ::testing::AssertionSuccess();
  };
  EXPECT_TRUE(contains(message(good.w, good.u, good.k[0], good.v), "bi_wkv: k must be [B, T, C], got [6, 4]"));
  EXPECT_TRUE(contains(message(good.w, good.u, good.k, good.v.slice(1, 0, 5)),
                       "v must have the shape of k, [2, 6, 4], got [2, 5, 4]"));
  EXPECT_TRUE(contains(message(good.w, good.u, good.k, good.v.to(at::kDouble)),
                       "v must have the dtype of k, Float, got Double"));
  EXPECT_TRUE(contains(message(good.w.slice(0, 1), good.u, good.k, good.v), "w must be [C] = [4], got [3]"));
  EXPECT_TRUE(contains(message(good.w, good.u.to(at::kDouble), good.k, good.v), "u must be Float"));
  EXPECT_TRUE(
      contains(message(good.w, good.u, good.k.to(at::kLong), good.v.to(at::kLong)), "k must be float64, float32"));
  EXPECT_TRUE(contains(message(good.w, good.u, good.k.slice(1, 0, 0), good.v.slice(1, 0, 0)), "at least one token"));
  if (GetParam().is_cuda()) {
    EXPECT_TRUE(
        contains(message(good.w.cpu(), good.u, good.k, good.v), "w must be on the device of k, cuda:0, got cpu"));
  }
}

}  // namespace
}  // namespace vrwkv::testing

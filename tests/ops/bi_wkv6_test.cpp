#include "ops/bi_wkv6.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <array>
#include <limits>
#include <set>

#include "tests/support/assert_close.h"
#include "tests/support/devices.h"
#include "tests/support/golden.h"
#include "vrwkv/autocast.h"

namespace vrwkv::testing {
namespace {

constexpr std::array<const char*, 5> kNames{"r", "k", "v", "w", "u"};

/// One call's arguments r, k, v, w, u, output gradient and, after run(), its result and gradients.
struct Case {
  std::array<at::Tensor, 5> inputs;
  at::Tensor gy;
  at::Tensor y;
  std::array<at::Tensor, 5> gradients;

  /// r, k, v and gy in `dtype`, w and u in `wide`.
  Case to(at::ScalarType dtype, at::ScalarType wide) const {
    const auto& [r, k, v, w, u] = inputs;
    return {{r.to(dtype), k.to(dtype), v.to(dtype), w.to(wide), u.to(wide)}, gy.to(dtype), {}, {}};
  }

  template <typename Op>
  at::Tensor call(const Op& op) const {
    return op(inputs[0], inputs[1], inputs[2], inputs[3], inputs[4]);
  }

  /// The same tensors on `device`.
  Case on(at::Device device) const {
    Case moved = *this;
    for (auto& input : moved.inputs) input = input.detach().to(device);
    moved.gy = gy.to(device);
    return moved;
  }

  /// Computes on `device` and brings the results to the CPU.
  template <typename Op>
  void run(const Op& op, at::Device device = at::kCPU) {
    Case there = on(device);
    for (auto& input : there.inputs) input = input.detach().requires_grad_();
    const at::Tensor result = there.call(op);
    const auto found = torch::autograd::grad({result}, {there.inputs.begin(), there.inputs.end()}, {there.gy},
                                             std::nullopt, /*create_graph=*/false, /*allow_unused=*/true);
    const auto home = [](const at::Tensor& x) { return x.is_meta() ? x : x.detach().cpu(); };
    y = home(result);
    // Up to two tokens, the formula never reads w.
    for (size_t i = 0; i < found.size(); ++i) {
      gradients[i] = found[i].defined() ? home(found[i]) : at::zeros_like(inputs[i]);
    }
  }
};

/// Random float64 inputs, with decays `w` from `low` to `high` before the two exponentials.
Case random_case(int64_t batch, int64_t tokens, int64_t heads, double low, double high) {
  const auto wide = at::TensorOptions(at::kDouble);
  const auto normal = [&] { return at::randn({batch, tokens, heads * 64}, wide); };
  const at::Tensor w = at::rand({batch, tokens, heads * 64}, wide) * (high - low) + low;
  return {{normal(), normal(), normal(), w, at::randn({heads, 64}, wide)}, normal(), {}, {}};
}

/// The definition, in O(T^2): every token reads every other one, faded by the decays of the tokens between them.
at::Tensor reference(const at::Tensor& r_in, const at::Tensor& k_in, const at::Tensor& v_in, const at::Tensor& w,
                     const at::Tensor& u) {
  const auto heads = [](const at::Tensor& x) { return x.unflatten(2, {-1, 64}); };
  const at::Tensor r = heads(r_in), k = heads(k_in), v = heads(v_in), decay = heads(at::exp(-at::exp(w)));
  std::vector<at::Tensor> rows;
  for (int64_t t = 0; t < r.size(1); ++t) {
    const auto read = [&](int64_t s, const at::Tensor& factor) {
      return (r.select(1, t) * factor * k.select(1, s)).sum(-1, /*keepdim=*/true) * v.select(1, s);
    };
    at::Tensor y = read(t, u);
    for (const int64_t step : {-1, 1}) {
      at::Tensor factor = at::ones_like(u);
      for (int64_t s = t + step; s >= 0 && s < r.size(1); s += step) {
        y = y + read(s, factor);
        factor = factor * decay.select(1, s);
      }
    }
    rows.push_back(y.flatten(1));
  }
  return at::stack(rows, 1);
}

void expect_equal_results(const Case& expected, const Case& actual, double tolerance, double gradient_tolerance) {
  EXPECT_TRUE(close("y", expected.y, actual.y, tolerance));
  for (size_t i = 0; i < kNames.size(); ++i) {
    EXPECT_TRUE(close(std::string("g") + kNames[i], expected.gradients[i], actual.gradients[i], gradient_tolerance));
  }
}

bool equal_bits(const Case& a, const Case& b) {
  for (size_t i = 0; i < kNames.size(); ++i) {
    if (!at::equal(a.gradients[i], b.gradients[i])) return false;
  }
  return at::equal(a.y, b.y);
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

// The suite's and the parameter's names let the runs of lower instruction sets (tests/CMakeLists.txt) take it too.
class BiWkv6 : public ::testing::TestWithParam<at::Device> {};

INSTANTIATE_TEST_SUITE_P(Devices, BiWkv6, ::testing::ValuesIn(devices()), device_name);

TEST_P(BiWkv6, MatchesTheGoldenValues) {
  const Safetensors golden = read_golden("wkv6.safetensors");
  std::set<std::string> names;
  for (const auto& [key, tensor] : golden.tensors) names.insert(key.substr(0, key.find('.')));
  ASSERT_EQ(names.size(), 4U);
  for (const auto& name : names) {
    const auto get = [&](const std::string& part) { return golden.tensors.at(name + "." + part); };
    Case expected{{get("r"), get("k"), get("v"), get("w"), get("u")}, get("gy"), get("y"), {}};
    for (size_t i = 0; i < kNames.size(); ++i) expected.gradients[i] = get(std::string("g") + kNames[i]);
    for (const auto dtype : {at::kDouble, at::kFloat}) {
      SCOPED_TRACE(name + " " + c10::toString(dtype));
      Case actual = expected.to(dtype, dtype);
      actual.run(ops::bi_wkv6, GetParam());
      const double tolerance = dtype == at::kDouble ? 1e-11 : 1e-5;
      expect_equal_results(expected, actual, tolerance, tolerance);
    }
  }
}

TEST_P(BiWkv6, MatchesTheFormulaAtAwkwardShapesAndExtremeDecays) {
  at::manual_seed(1);
  struct Decays {
    double low, high;
  };
  for (const int64_t tokens : {1, 2, 3, 15, 16, 17, 33, 70}) {
    // Factors near 1, spread over (0, 1), near 0, all of these side by side, and 0 or 1 to the last bit.
    for (const auto& [low, high] : {Decays{-20, -10}, {-4, 1}, {2, 4}, {-12, 6}, {-50, 50}}) {
      const int64_t heads = 1 + tokens % 3;
      SCOPED_TRACE(c10::str("T ", tokens, " heads ", heads, " w ", low, " to ", high));
      // Inputs that float32 holds, so that only the op's error is measured.
      Case narrow = random_case(2, tokens, heads, low, high).to(at::kFloat, at::kFloat);
      Case expected = narrow.to(at::kDouble, at::kDouble), wide = expected;
      expected.run(reference);
      wide.run(ops::bi_wkv6, GetParam());
      narrow.run(ops::bi_wkv6, GetParam());
      expect_equal_results(expected, wide, 1e-12, 1e-11);
      expect_equal_results(expected, narrow, 1e-5, 1e-5);
    }
  }
}

TEST_P(BiWkv6, IsExactToReducedPrecision) {
  at::manual_seed(2);
  for (const auto& [dtype, tolerance] : {std::pair{at::kBFloat16, 4e-3}, {at::kHalf, 5e-4}}) {
    for (const auto wide : {at::kFloat, dtype}) {
      SCOPED_TRACE(c10::str(dtype, " w ", wide));
      // The reference sees the inputs after rounding: only the op's own error counts.
      Case actual = random_case(1, 37, 2, -6, 1).to(dtype, wide);
      Case expected = actual.to(at::kDouble, at::kDouble);
      expected.run(reference);
      actual.run(ops::bi_wkv6, GetParam());
      EXPECT_EQ(actual.y.scalar_type(), dtype);
      EXPECT_EQ(actual.gradients[0].scalar_type(), dtype);
      EXPECT_EQ(actual.gradients[3].scalar_type(), wide);
      expect_equal_results(expected, actual, tolerance, tolerance);
    }
  }
}

TEST_P(BiWkv6, KeepsReducedPrecisionForDecaysOfAnySize) {
  at::manual_seed(11);
  struct Decays {
    double low, high;
  };
  for (const int64_t tokens : {3, 17, 40}) {
    // Besides factors near 1, 0, and all between: all just above, around and below the least one that CUDA's kernels
    // for bfloat16 take within a chunk, exp(-10) = exp(-exp(2.303)).
    for (const auto& [low, high] : {Decays{-20, -10}, {-4, 1}, {2, 4}, {-50, 50}, {2.1, 2.2}, {2.2, 2.4}, {2.4, 2.5}}) {
      SCOPED_TRACE(c10::str("T ", tokens, " w ", low, " to ", high));
      // So many that the error is that of roundings on average, not of a few.
      Case actual = random_case(8, tokens, 1, low, high).to(at::kBFloat16, at::kFloat);
      Case expected = actual.to(at::kDouble, at::kDouble);
      expected.run(reference);
      actual.run(ops::bi_wkv6, GetParam());
      // A decay of e^-10 takes a gradient as small, of which float32's sums over a chunk leave two digits.
      expect_equal_results(expected, actual, 4e-3, 1e-2);
    }
  }
}

TEST_P(BiWkv6, ForgetsInReducedPrecisionWhatADecayOfZeroEnds) {
  at::manual_seed(12);
  const int64_t tokens = 64;
  for (const int64_t end : {16, 21, 31}) {
    SCOPED_TRACE(end);
    Case actual = random_case(1, tokens, 1, -20, -10).to(at::kBFloat16, at::kFloat);
    actual.inputs[3].select(1, end).fill_(20);
    // What the decay hides from later tokens is much larger than what these have of their own.
    actual.inputs[1].slice(1, 0, end).mul_(16);
    Case expected = actual.to(at::kDouble, at::kDouble);
    expected.run(reference);
    actual.run(ops::bi_wkv6, GetParam());
    const auto later = [&](const at::Tensor& y) { return y.slice(1, end + 1); };
    EXPECT_TRUE(close("y", later(expected.y), later(actual.y), 5e-3));
  }
}

TEST_P(BiWkv6, StaysExactOverLongSequences) {
  at::manual_seed(3);
  Case actual = random_case(1, 16384, 1, -12, 2).to(at::kFloat, at::kFloat);
  // Against the op's own float64, which the tests above hold against the formula.
  Case expected = actual.to(at::kDouble, at::kDouble);
  expected.run(ops::bi_wkv6);
  actual.run(ops::bi_wkv6, GetParam());
  expect_equal_results(expected, actual, 1e-5, 1e-4);
}

TEST_P(BiWkv6, AgreesWithTheCpuForAnyDivisionOfTheTokens) {
  if (GetParam().is_cpu()) GTEST_SKIP() << "compares other devices with the CPU";
  at::manual_seed(10);
  for (const auto& [batch, tokens, heads] :
       {std::array<int64_t, 3>{1, 63, 1}, {3, 196, 2}, {2, 257, 3}, {1, 1025, 2}, {140, 130, 2}, {1, 4099, 1}}) {
    SCOPED_TRACE(c10::str(batch, " ", tokens, " ", heads));
    Case narrow = random_case(batch, tokens, heads, -8, 3).to(at::kFloat, at::kFloat);
    Case expected = narrow.to(at::kDouble, at::kDouble), wide = expected;
    Case half = random_case(batch, tokens, heads, -8, 3).to(at::kBFloat16, at::kFloat);
    Case half_expected = half.to(at::kDouble, at::kDouble);
    expected.run(ops::bi_wkv6);
    half_expected.run(ops::bi_wkv6);
    wide.run(ops::bi_wkv6, GetParam());
    narrow.run(ops::bi_wkv6, GetParam());
    half.run(ops::bi_wkv6, GetParam());
    expect_equal_results(expected, wide, 1e-12, 1e-11);
    expect_equal_results(expected, narrow, 1e-5, 1e-5);
    expect_equal_results(half_expected, half, 4e-3, 5e-3);
  }
}

TEST_P(BiWkv6, GradientsMatchFiniteDifferences) {
  at::manual_seed(4);
  Case inputs = random_case(2, 19, 2, -3, 1);
  inputs.run(ops::bi_wkv6, GetParam());
  const at::NoGradGuard no_grad;
  const double h = 1e-5;
  for (size_t i = 0; i < kNames.size(); ++i) {
    // Along random directions: (f(x + h z) - f(x - h z)) / 2h = <gradient, z>.
    for (int trial = 0; trial < 5; ++trial) {
      const at::Tensor z = at::randn_like(inputs.inputs[i]);
      const auto value = [&](double step) {
        Case moved = inputs;
        moved.inputs[i] = inputs.inputs[i] + z * step;
        return (moved.call(ops::bi_wkv6) * inputs.gy).sum().item<double>();
      };
      const double numeric = (value(h) - value(-h)) / (2 * h), exact = (inputs.gradients[i] * z).sum().item<double>();
      const double scale = inputs.gradients[i].norm().item<double>();
      EXPECT_NEAR(numeric, exact, 1e-7 * scale) << kNames[i];
    }
  }
}

TEST_P(BiWkv6, TakesDecaysOfAnySize) {
  at::manual_seed(5);
  for (const auto dtype : {at::kDouble, at::kFloat}) {
    for (const double size : {1e4, std::numeric_limits<double>::infinity()}) {
      SCOPED_TRACE(c10::str(dtype, " ", size));
      Case inputs = random_case(1, 20, 1, -1, 1);
      const at::Tensor sign = inputs.inputs[3].sign();
      inputs.inputs[3] = sign * 50;  // Factors that are 0 and 1 in any precision.
      Case expected = inputs, actual = inputs.to(dtype, dtype);
      actual.inputs[3] = (sign * size).to(dtype);
      expected = actual.to(at::kDouble, at::kDouble);
      expected.inputs[3] = sign * 50;
      expected.run(reference);
      actual.run(ops::bi_wkv6, GetParam());
      const double tolerance = dtype == at::kDouble ? 1e-12 : 1e-5;
      EXPECT_TRUE(close("y", expected.y, actual.y, tolerance));
      for (const size_t i : {0, 1, 2, 4}) {
        EXPECT_TRUE(close(kNames[i], expected.gradients[i], actual.gradients[i], tolerance));
      }
      EXPECT_TRUE(at::equal(actual.gradients[3], at::zeros_like(actual.gradients[3])));
    }
  }
}

TEST_P(BiWkv6, TakesAnyMemoryLayout) {
  at::manual_seed(6);
  const Case base = random_case(3, 20, 2, -4, 1).on(GetParam());
  Case strided = base;
  strided.inputs[0] = at::stack({base.inputs[0], base.inputs[0]}, -1).select(-1, 1);
  strided.inputs[1] = base.inputs[1].transpose(1, 2).contiguous().transpose(1, 2);
  strided.inputs[3] = base.inputs[3].transpose(0, 1).contiguous().transpose(0, 1);
  strided.inputs[4] = base.inputs[4].t().contiguous().t();
  strided.gy = base.gy.select(0, 0).unsqueeze(0).expand_as(base.gy);
  for (const size_t i : {0, 1, 3, 4}) ASSERT_FALSE(strided.inputs[i].is_contiguous());
  Case expected = base;
  expected.gy = strided.gy.contiguous();
  expected.run(ops::bi_wkv6, GetParam());
  strided.run(ops::bi_wkv6, GetParam());
  EXPECT_TRUE(equal_bits(expected, strided));
}

TEST_P(BiWkv6, AcceptsNoTokensBatchesOrHeads) {
  for (const auto& [batch, tokens, heads] : {std::array<int64_t, 3>{2, 0, 2}, {0, 5, 1}, {2, 5, 0}}) {
    Case empty = random_case(batch, tokens, heads, -1, 1).to(at::kFloat, at::kFloat);
    empty.run(ops::bi_wkv6, GetParam());
    EXPECT_EQ(empty.y.sizes(), empty.inputs[1].sizes());
    for (size_t i = 0; i < 5; ++i) EXPECT_TRUE(at::equal(empty.gradients[i], at::zeros_like(empty.inputs[i])));
  }
}

TEST_P(BiWkv6, GivesEqualBitsInEveryRunForAnyNumberOfThreads) {
  at::manual_seed(7);
  Case first = random_case(3, 70, 3, -4, 1).to(at::kFloat, at::kFloat);
  Case second = first, third = first;
  first.run(ops::bi_wkv6, GetParam());
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  second.run(ops::bi_wkv6, GetParam());
  at::set_num_threads(2);
  third.run(ops::bi_wkv6, GetParam());
  at::set_num_threads(threads);
  EXPECT_TRUE(equal_bits(first, second));
  EXPECT_TRUE(equal_bits(first, third));
}

TEST_P(BiWkv6, PropagatesNaNWithinItsHead) {
  at::manual_seed(8);
  Case inputs = random_case(1, 8, 2, -4, 0);
  inputs.inputs[1][0][3][70] = std::numeric_limits<double>::quiet_NaN();
  const at::Tensor y = inputs.on(GetParam()).call(ops::bi_wkv6);
  EXPECT_TRUE(y.slice(2, 64).isnan().all().item<bool>());
  EXPECT_TRUE(y.slice(2, 0, 64).isfinite().all().item<bool>());
}

TEST_P(BiWkv6, RunsInReducedPrecisionUnderAutocast) {
  at::manual_seed(9);
  Case inputs = random_case(2, 30, 1, -6, -1).to(at::kFloat, at::kFloat);
  Case plain = inputs;
  plain.run(ops::bi_wkv6, GetParam());
  {
    const AutocastGuard autocast(GetParam().type(), at::kBFloat16);
    inputs.run(ops::bi_wkv6, GetParam());
  }
  EXPECT_EQ(inputs.y.scalar_type(), at::kBFloat16);
  for (const auto& gradient : inputs.gradients) EXPECT_EQ(gradient.scalar_type(), at::kFloat);
  expect_equal_results(plain, inputs, 1e-2, 1e-2);
}

TEST_P(BiWkv6, GivesShapesOfMetaTensors) {
  Case inputs = random_case(2, 5, 3, -1, 1).to(at::kBFloat16, at::kFloat);
  inputs = inputs.on(at::kMeta);
  inputs.run(ops::bi_wkv6, at::kMeta);
  EXPECT_EQ(inputs.y.sizes(), (at::IntArrayRef{2, 5, 192}));
  EXPECT_EQ(inputs.y.scalar_type(), at::kBFloat16);
  EXPECT_EQ(inputs.gradients[4].sizes(), (at::IntArrayRef{3, 64}));
  EXPECT_EQ(inputs.gradients[4].scalar_type(), at::kFloat);
}

TEST_P(BiWkv6, RefusesToDifferentiateItsGradient) {
  Case inputs = random_case(1, 4, 1, -1, 1);
  inputs.inputs[1].requires_grad_();
  const at::Tensor y = inputs.call(ops::bi_wkv6);
  const auto gk = torch::autograd::grad({y.sum()}, {inputs.inputs[1]}, {}, /*retain_graph=*/true, true)[0];
  EXPECT_THROW(torch::autograd::grad({gk.sum()}, {inputs.inputs[1]}), c10::Error);
}

TEST_P(BiWkv6, NamesWhatIsWrongWithItsArguments) {
  const Case good = random_case(2, 6, 2, -1, 1).to(at::kFloat, at::kFloat);
  const auto expect = [&](size_t input, const at::Tensor& bad, const std::string& part) {
    Case wrong = good;
    wrong.inputs[input] = bad;
    const std::string message = message_of([&] { wrong.call(ops::bi_wkv6); });
    EXPECT_NE(message.find("bi_wkv6: " + part), std::string::npos) << message;
  };
  const auto& [r, k, v, w, u] = good.inputs;
  expect(1, k[0], "k must be [B, T, C], got [6, 128]");
  expect(1, k.slice(2, 0, 100), "k must have whole heads of 64 channels, got [2, 6, 100]");
  expect(1, k.to(at::kLong), "k must be float64, float32");
  expect(0, r.slice(1, 0, 5), "r must be [2, 6, 128], got [2, 5, 128]");
  expect(2, v.to(at::kDouble), "v must have the dtype of k, Float, got Double");
  expect(3, w[0], "w must be [2, 6, 128], got [6, 128]");
  expect(3, w.to(at::kHalf), "w must be Float or have the dtype of k, Float, got Half");
  expect(4, u.slice(0, 0, 1), "u must be [2, 64], got [1, 64]");
  expect(4, u.to(at::kMeta), "u must be on the device of k, cpu, got meta");
}

TEST_P(BiWkv6, SaysWhichDeviceHasNoKernel) {
  const Case good = random_case(1, 3, 1, -1, 1);
  const auto op = c10::Dispatcher::singleton()
                      .findSchemaOrThrow("vrwkv::bi_wkv6", "")
                      .typed<at::Tensor(const at::Tensor&, const at::Tensor&, const at::Tensor&, const at::Tensor&,
                                        const at::Tensor&)>();
  // What a backend without kernels of its own would run.
  const c10::DispatchKeySet other(c10::DispatchKey::PrivateUse1);
  const std::string message = message_of(
      [&] { op.redispatch(other, good.inputs[0], good.inputs[1], good.inputs[2], good.inputs[3], good.inputs[4]); });
  EXPECT_NE(message.find("bi_wkv6: VRWKV6's attention has kernels for the CPU and CUDA only, got tensors on cpu"),
            std::string::npos)
      << message;
}

}  // namespace
}  // namespace vrwkv::testing

#include "ops/bi_wkv_gated.h"

#include <ATen/ATen.h>
#include <ATen/Version.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <limits>

#include "ops/bi_wkv.h"
#include "tests/support/assert_close.h"
#include "tests/support/bi_wkv_reference.h"
#include "tests/support/devices.h"
#include "vrwkv/autocast.h"

namespace vrwkv::testing {
namespace {

using Tensors = std::vector<at::Tensor>;

/// w, u, k, v, r and the gradient of y: float64, |w T| up to `decay`, keys within +-80.
Tensors random_inputs(int64_t batch, int64_t tokens, int64_t channels, double decay, double key_scale) {
  const auto options = at::TensorOptions(at::kDouble);
  const auto random = [&] { return at::randn({batch, tokens, channels}, options); };
  return {(at::rand({channels}, options) * 2 - 1) * (decay / static_cast<double>(tokens)),
          at::randn({channels}, options),
          (random() * key_scale).clamp(-80, 80),
          random(),
          random() * 3,
          random()};
}

/// Puts the keys of each channel on another level in every stretch of tokens.
void add_levels(Tensors& inputs, double height) {
  constexpr int64_t kStretch = 100;
  at::Tensor& keys = inputs[2];
  const int64_t tokens = keys.size(1), stretches = (tokens + kStretch - 1) / kStretch;
  const at::Tensor levels = at::randn({keys.size(0), stretches, keys.size(2)}, keys.options()) * height;
  keys = (keys + levels.repeat_interleave(kStretch, 1).slice(1, 0, tokens)).clamp(-80, 80);
}

/// w and u in float32 unless all is float64, the rest in `dtype`.
Tensors cast(const Tensors& inputs, at::Device device, at::ScalarType dtype) {
  Tensors result;
  for (size_t i = 0; i < inputs.size(); ++i) {
    result.push_back(inputs[i].to(device, i < 2 && dtype != at::kDouble ? at::kFloat : dtype));
  }
  return result;
}

/// y and the gradients of w, u, k, v, r.
template <typename Op>
Tensors run(const Op& op, const Tensors& inputs) {
  Tensors leaves;
  for (size_t i = 0; i < 5; ++i) leaves.push_back(inputs[i].detach().requires_grad_());
  const at::Tensor y = op(leaves[0], leaves[1], leaves[2], leaves[3], leaves[4]);
  Tensors results = torch::autograd::grad({y}, leaves, {inputs[5]});
  results.insert(results.begin(), y);
  return results;
}

void expect_close(const Tensors& expected, const Tensors& actual, double tolerance, double gradient_tolerance,
                  double gw_tolerance) {
  EXPECT_TRUE(close("y", expected[0], actual[0], tolerance));
  EXPECT_TRUE(close("gw", expected[1], actual[1], gw_tolerance));
  const std::vector<const char*> names{"gu", "gk", "gv", "gr"};
  for (size_t i = 0; i < names.size(); ++i) {
    EXPECT_TRUE(close(names[i], expected[i + 2], actual[i + 2], gradient_tolerance));
  }
}

at::Tensor reference(const at::Tensor& w, const at::Tensor& u, const at::Tensor& k, const at::Tensor& v,
                     const at::Tensor& r) {
  return at::sigmoid(r) * bi_wkv_reference(w, u, k, v);
}

class BiWkvGated : public ::testing::TestWithParam<at::Device> {};

INSTANTIATE_TEST_SUITE_P(Devices, BiWkvGated, ::testing::ValuesIn(devices()), device_name);

TEST_P(BiWkvGated, MatchesTheFormula) {
  at::manual_seed(1);
  for (const int64_t tokens : {1, 2, 31, 33, 64, 196, 197, 300}) {
    for (const int64_t channels : {1, 3, 33}) {
      for (const auto& [decay, key_scale] : {std::pair{1.0, 1.0}, {20.0, 1.0}, {60.0, 30.0}, {0.0, 80.0}}) {
        SCOPED_TRACE(c10::str("T ", tokens, " C ", channels, " |wT| ", decay, " k ", key_scale));
        const Tensors inputs = random_inputs(2, tokens, channels, decay, key_scale);
        expect_close(run(reference, inputs), run(ops::bi_wkv_gated, cast(inputs, GetParam(), at::kDouble)), 1e-12,
                     1e-10, 1e-10);
      }
    }
  }
}

// Every way the tokens can be divided (one block, blocks that wait for each other, several launches), every arithmetic,
// every dtype;
// against the float64 kernel, which the test above holds against the formula.
TEST_P(BiWkvGated, IsExactToReducedPrecisionAtEverySize) {
  at::manual_seed(2);
  struct Precision {
    at::ScalarType dtype;
    double tolerance, gradient_tolerance;
    double gw_tolerance;  // Terms of either sign cancel in it (docs/ops.md).
  };
  for (const auto& precision :
       {Precision{at::kFloat, 1e-5, 1e-4, 2e-3}, {at::kBFloat16, 1e-2, 1e-2, 1e-2}, {at::kHalf, 1e-3, 2e-3, 2e-3}}) {
    for (const int64_t tokens : {1, 2, 31, 33, 171, 196, 197, 256, 257, 1024, 4096, 16384, 65537}) {
      if (tokens > 20'000 && !GetParam().is_cuda()) continue;  // Nothing new there.
      for (const auto& [decay, key_scale] : {std::pair{1.0, 1.0}, {25.0, 3.0}, {60.0, 30.0}}) {
        if (precision.dtype != at::kFloat && key_scale > 3.0) continue;  // the rounding of y dominates at such peaks
        // The CPU's exact way scans thousands of tokens in one go, so that its roundings add up; CUDA's goes by
        // segments. Without fused multiply-adds they do so in proportion to the tokens: errors of y at |wT| 25 over ten
        // seeds up to 6.3e-6 at 4,096 and 2.8e-5 at 16,384 tokens, with them 3.9e-6.
        const bool fuses = at::get_cpu_capability() != "DEFAULT";
        const double longer = fuses ? 1.0 : std::max(1.0, static_cast<double>(tokens) / 4096);
        const double looser = GetParam().is_cuda() || tokens < 4096 ? 1 : decay > 40 ? 10 : 2 * longer;
        for (const int64_t channels : {1, 35, 131, 136}) {
          const bool is_wide_too = tokens == 171 || tokens == 196 || tokens == 1024 || tokens == 4096;
          if (channels > 35 && !is_wide_too) continue;
          SCOPED_TRACE(c10::str(precision.dtype, " T ", tokens, " C ", channels, " |wT| ", decay, " k ", key_scale));
          const Tensors rounded =
              cast(random_inputs(2, tokens, channels, decay, key_scale), GetParam(), precision.dtype);
          expect_close(run(ops::bi_wkv_gated, cast(rounded, GetParam(), at::kDouble)), run(ops::bi_wkv_gated, rounded),
                       looser * precision.tolerance, looser * precision.gradient_tolerance,
                       looser * precision.gw_tolerance);
        }
      }
    }
  }
}

// Keys on another level in each stretch of a sequence, and one stretch without any: of what comes in to a chunk some is
// far above its own sums, some far below.
TEST_P(BiWkvGated, TakesKeysOfAnotherLevelInEveryStretch) {
  at::manual_seed(8);
  for (const auto& [dtype, tolerance] : {std::pair{at::kFloat, 1e-4}, {at::kBFloat16, 1e-2}}) {
    for (const double height : {3.0, 12.0, 30.0}) {
      for (const int64_t tokens : {190, 2500}) {
        SCOPED_TRACE(c10::str(dtype, " T ", tokens, " levels of ", height));
        Tensors inputs = random_inputs(2, tokens, 24, 10.0, 1.0);
        add_levels(inputs, height);
        inputs[2].slice(1, tokens * 7 / 25, tokens / 2).fill_(-std::numeric_limits<double>::infinity());
        const Tensors rounded = cast(inputs, GetParam(), dtype);
        expect_close(run(ops::bi_wkv_gated, cast(rounded, GetParam(), at::kDouble)), run(ops::bi_wkv_gated, rounded),
                     tolerance, tolerance, 10 * tolerance);
      }
    }
  }
}

TEST_P(BiWkvGated, GivesEqualBitsInEveryRun) {
  at::manual_seed(3);
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    for (const int64_t tokens : {196, 1024, 5000}) {
      SCOPED_TRACE(c10::str(dtype, " T ", tokens));
      const Tensors inputs = cast(random_inputs(3, tokens, 40, 10.0, 2.0), GetParam(), dtype);
      const Tensors first = run(ops::bi_wkv_gated, inputs);
      const Tensors second = run(ops::bi_wkv_gated, inputs);
      for (size_t i = 0; i < first.size(); ++i) EXPECT_TRUE(at::equal(first[i], second[i])) << "result " << i;
    }
  }
}

// Without a backward pass to come long sequences are cut into other chunks.
TEST_P(BiWkvGated, IsAsExactWithoutGradients) {
  at::manual_seed(9);
  const at::NoGradGuard no_grad;
  const auto y_of = [](const Tensors& in) { return ops::bi_wkv_gated(in[0], in[1], in[2], in[3], in[4]); };
  for (const auto& [dtype, tolerance] : {std::pair{at::kFloat, 1e-5}, {at::kBFloat16, 1e-2}, {at::kHalf, 1e-3}}) {
    for (const int64_t tokens : {197, 1024, 4096, 8193, 9000, 16384}) {
      for (const auto& [decay, height] : {std::pair{5.0, 0.0}, {25.0, 3.0}, {60.0, 30.0}}) {
        for (const int64_t channels : {1, 35, 136}) {
          if (!GetParam().is_cuda() && (tokens > 8193 || channels > 35)) continue;  // Nothing new there.
          SCOPED_TRACE(c10::str(dtype, " T ", tokens, " C ", channels, " |wT| ", decay, " levels of ", height));
          Tensors inputs = random_inputs(2, tokens, channels, decay, 1.0);
          add_levels(inputs, height);
          const Tensors rounded = cast(inputs, GetParam(), dtype);
          const at::Tensor y = y_of(rounded);
          const bool is_long = tokens >= 4096 && dtype == at::kFloat;
          // The CPU's roundings add up, as above; on CUDA one of an exponent near 100 is already 8e-6.
          const double of_cpu = decay > 40 ? 10 : 2, of_cuda = decay > 40 ? 2 : 1;
          const double looser = !is_long ? 1 : GetParam().is_cuda() ? of_cuda : of_cpu;
          EXPECT_TRUE(close("y", y_of(cast(rounded, GetParam(), at::kDouble)), y, looser * tolerance));
          EXPECT_TRUE(at::equal(y, y_of(rounded))) << "in another run";
          if (!GetParam().is_cuda()) continue;  // LibTorch's sigmoid depends on how many there are.
          Tensors alone = rounded;
          for (size_t i = 2; i < alone.size(); ++i) alone[i] = alone[i].slice(0, 0, 1);
          EXPECT_TRUE(at::equal(y.slice(0, 0, 1), y_of(alone))) << "alone";
        }
      }
    }
  }
}

// More sequences than the device has room for at once: blocks take them in turn.
TEST_P(BiWkvGated, GivesABatchWhatItsElementsGetAlone) {
  at::manual_seed(5);
  for (const auto& [dtype, tokens] : {std::pair{at::kFloat, 1000}, {at::kFloat, 2100}, {at::kBFloat16, 2100}}) {
    SCOPED_TRACE(c10::str(dtype, " T ", tokens));
    const Tensors whole = cast(random_inputs(16, tokens, 192, 10.0, 2.0), GetParam(), dtype);
    const Tensors results = run(ops::bi_wkv_gated, whole);
    for (const int64_t element : {0, 7, 15}) {
      Tensors alone = whole;
      for (size_t i = 2; i < alone.size(); ++i) alone[i] = alone[i].slice(0, element, element + 1);
      const Tensors expected = run(ops::bi_wkv_gated, alone);
      for (const size_t i : {0, 3, 4, 5}) {  // gw and gu are sums over the batch.
        EXPECT_TRUE(at::equal(results[i].slice(0, element, element + 1), expected[i])) << element << " result " << i;
      }
    }
  }
}

// So that what follows them can take them as one factor of a product.
TEST_P(BiWkvGated, LeavesTheGradientsOfTokensSideBySide) {
  if (!GetParam().is_cuda()) GTEST_SKIP() << "only CUDA's kernels do";
  at::manual_seed(6);
  Tensors in = cast(random_inputs(2, 300, 24, 1.0, 1.0), GetParam(), at::kFloat);
  for (at::Tensor& tensor : in) tensor.requires_grad_();
  const at::Tensor y = ops::bi_wkv_gated(in[0], in[1], in[2], in[3], in[4]);
  const Tensors gradients = torch::autograd::grad({y}, {in[2], in[3], in[4]}, {at::ones_like(y)});
  for (size_t i = 0; i < gradients.size(); ++i) {
    EXPECT_EQ(gradients[i].strides(), at::IntArrayRef({300 * 72, 72, 1}));
    EXPECT_EQ(gradients[i].data_ptr<float>(), gradients[0].data_ptr<float>() + 24 * i);
  }
}

TEST_P(BiWkvGated, RefusesSumsOfAnotherForwardPass) {
  if (!GetParam().is_cuda()) GTEST_SKIP() << "only CUDA's forward pass keeps sums";
  const Tensors in = cast(random_inputs(2, 1000, 24, 1.0, 1.0), GetParam(), at::kFloat);
  const auto backward = c10::Dispatcher::singleton()
                            .findSchemaOrThrow("vrwkv::_bi_wkv_backward", "")
                            .typed<std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor>(
                                const at::Tensor&, const at::Tensor&, const at::Tensor&, const at::Tensor&,
                                const at::Tensor&, const at::Tensor&)>();
  try {
    backward.call(in[0], in[1], in[2], in[3], in[4], at::empty({0}, in[2].options()));
    FAIL() << "no error";
  } catch (const c10::Error& error) {
    EXPECT_NE(std::string(error.what())
                  .find("wants the sums that the forward pass of this shape has kept, [2, 24, 48] of Float"),
              std::string::npos)
        << error.what();
  }
}

TEST_P(BiWkvGated, RunsInReducedPrecisionUnderAutocast) {
  at::manual_seed(4);
  const Tensors inputs = cast(random_inputs(2, 30, 16, 3.0, 1.0), GetParam(), at::kFloat);
  const Tensors plain = run(ops::bi_wkv_gated, inputs);
  const AutocastGuard autocast(GetParam().type(), at::kBFloat16);
  const at::Tensor y = ops::bi_wkv_gated(inputs[0], inputs[1], inputs[2], inputs[3], inputs[4]);
  EXPECT_EQ(y.scalar_type(), at::kBFloat16);
  EXPECT_TRUE(close("y", plain[0], y, 1e-2));
}

TEST_P(BiWkvGated, NamesWhatIsWrongWithTheGate) {
  const Tensors in = cast(random_inputs(2, 6, 4, 1.0, 1.0), GetParam(), at::kFloat);
  try {
    ops::bi_wkv_gated(in[0], in[1], in[2], in[3], in[4].slice(1, 0, 5));
    FAIL() << "no error";
  } catch (const c10::Error& error) {
    EXPECT_NE(std::string(error.what()).find("r must have the shape of k, [2, 6, 4], got [2, 5, 4]"), std::string::npos)
        << error.what();
  }
}

}  // namespace
}  // namespace vrwkv::testing

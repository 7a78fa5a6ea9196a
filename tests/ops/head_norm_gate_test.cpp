#include "ops/head_norm_gate.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "tests/support/assert_close.h"
#include "tests/support/devices.h"
#include "vrwkv/autocast.h"

namespace vrwkv::testing {
namespace {

using Tensors = std::vector<at::Tensor>;
constexpr double kEps = 1e-5;

/// y, gate, weight and bias; the gradient of the result.
struct Case {
  int64_t heads;
  Tensors leaves;
  at::Tensor gradient;

  Case to(at::Device device, at::ScalarType dtype) const {
    const auto parameters = dtype == at::kDouble ? at::kDouble : at::kFloat;
    Case result{heads, {}, gradient.to(device, dtype)};
    for (const auto& leaf : leaves) result.leaves.push_back(leaf.to(device, leaf.dim() == 1 ? parameters : dtype));
    return result;
  }

  template <typename Op>
  at::Tensor call(const Op& op) const {
    return op(leaves[0], leaves[1], leaves[2], leaves[3], heads, kEps);
  }

  /// The result, then the gradients of y, gate, weight and bias.
  template <typename Op>
  Tensors run(const Op& op) const {
    Case fresh = *this;
    for (auto& leaf : fresh.leaves) leaf = leaf.detach().requires_grad_();
    Tensors results{fresh.call(op)};
    const Tensors grads = torch::autograd::grad(results, fresh.leaves, {gradient});
    results.insert(results.end(), grads.begin(), grads.end());
    return results;
  }
};

Case random_case(int64_t batch, int64_t tokens, int64_t heads, int64_t head = 64) {
  const auto options = at::TensorOptions(at::kDouble);
  const auto like_y = [&] { return at::randn({batch, tokens, heads * head}, options); };
  const auto parameter = [&] { return at::randn({heads * head}, options); };
  return {heads, {3 * like_y() + 1, 2 * like_y(), parameter(), parameter()}, like_y()};
}

/// The formula.
at::Tensor reference(const at::Tensor& y, const at::Tensor& gate, const at::Tensor& weight, const at::Tensor& bias,
                     int64_t heads, double eps) {
  const at::Tensor apart = y.unflatten(2, {heads, y.size(2) / heads});
  const at::Tensor centred = apart - apart.mean(3, true);
  const at::Tensor standard = centred / (centred.square().mean(3, true) + eps).sqrt();
  return (standard.flatten(2) * weight + bias) * gate / (1 + at::exp(-gate));
}

void expect_close(const Tensors& expected, const Tensors& actual, double tolerance) {
  ASSERT_EQ(expected.size(), actual.size());
  const char* names[] = {"result", "gy", "ggate", "gweight", "gbias"};
  for (size_t i = 0; i < expected.size(); ++i) EXPECT_TRUE(close(names[i], expected[i], actual[i], tolerance));
}

class HeadNormGate : public ::testing::TestWithParam<at::Device> {};

INSTANTIATE_TEST_SUITE_P(Devices, HeadNormGate, ::testing::ValuesIn(devices()), device_name);

struct Precision {
  at::ScalarType dtype;
  double tolerance;
};

TEST_P(HeadNormGate, MatchesTheFormula) {
  at::manual_seed(1);
  for (const auto& [dtype, tolerance] :
       {Precision{at::kDouble, 1e-13}, {at::kFloat, 1e-5}, {at::kBFloat16, 1e-2}, {at::kHalf, 2e-3}}) {
    struct Size {
      int64_t batch, tokens, heads, head = 64;
    };
    for (const Size& size :
         {Size{1, 1, 1}, {2, 5, 1}, {2, 196, 3}, {3, 33, 12}, {1, 2, 40}, {1, 7, 5}, {2, 3, 4, 16}, {2, 5, 3, 7}}) {
      SCOPED_TRACE(c10::str(dtype, " B ", size.batch, " T ", size.tokens, " heads ", size.heads, " of ", size.head));
      const Case rounded = random_case(size.batch, size.tokens, size.heads, size.head).to(GetParam(), dtype);
      const Tensors actual = rounded.run(ops::head_norm_gate);
      for (size_t i = 0; i < 3; ++i) EXPECT_EQ(actual[i].scalar_type(), dtype);
      expect_close(rounded.to(at::kCPU, at::kDouble).run(reference), actual, tolerance);
    }
  }
}

TEST_P(HeadNormGate, SumsOverManyTokens) {
  at::manual_seed(2);
  const Case inputs = random_case(64, 300, 3).to(GetParam(), at::kFloat);
  expect_close(inputs.to(at::kCPU, at::kDouble).run(reference), inputs.run(ops::head_norm_gate), 1e-5);
}

TEST_P(HeadNormGate, TakesLargeValuesAndGates) {
  at::manual_seed(3);
  Case inputs = random_case(2, 9, 2);
  inputs.leaves[0] *= 1e4;
  inputs.leaves[1] *= 60;
  const Case rounded = inputs.to(GetParam(), at::kFloat);
  const Tensors actual = rounded.run(ops::head_norm_gate);
  for (const auto& result : actual) EXPECT_TRUE(result.isfinite().all().item<bool>());
  expect_close(rounded.to(at::kCPU, at::kDouble).run(reference), actual, 1e-5);
}

/// What the gradients promise: the change of the result where the arguments change a little.
TEST_P(HeadNormGate, ItsGradientsAreItsDerivatives) {
  at::manual_seed(4);
  const Case inputs = random_case(2, 3, 2).to(GetParam(), at::kDouble);
  const Tensors results = inputs.run(ops::head_norm_gate);
  for (size_t i = 0; i < 4; ++i) {
    const double step = 1e-5;
    const at::Tensor direction = at::randn_like(inputs.leaves[i]);
    const auto moved = [&](double distance) {
      Case other = inputs;
      other.leaves[i] = inputs.leaves[i] + distance * direction;
      return (other.call(ops::head_norm_gate) * inputs.gradient).sum().item<double>();
    };
    const double expected = (moved(step) - moved(-step)) / (2 * step);
    EXPECT_NEAR((results[1 + i] * direction).sum().item<double>(), expected, 1e-6 * (1 + std::abs(expected)));
  }
}

TEST_P(HeadNormGate, TakesAnyMemoryLayoutAndUnalignedTensors) {
  at::manual_seed(5);
  Case inputs = random_case(2, 6, 3).to(GetParam(), at::kFloat);
  const Tensors expected = inputs.run(ops::head_norm_gate);
  const auto unaligned = [](const at::Tensor& tensor) {
    const at::Tensor storage = at::empty({tensor.numel() + 1}, tensor.options());
    storage.slice(0, 1).copy_(tensor.flatten());
    return storage.slice(0, 1).view(tensor.sizes());
  };
  inputs.leaves[0] = inputs.leaves[0].transpose(0, 2).contiguous().transpose(0, 2);
  inputs.leaves[1] = unaligned(inputs.leaves[1]);
  inputs.leaves[2] = unaligned(inputs.leaves[2]);
  inputs.gradient = unaligned(inputs.gradient);
  expect_close(expected, inputs.run(ops::head_norm_gate), 1e-6);
}

TEST_P(HeadNormGate, AcceptsEmptyTensors) {
  for (const auto& [batch, tokens] : {std::pair<int64_t, int64_t>{0, 4}, {2, 0}}) {
    const Case empty = random_case(batch, tokens, 2).to(GetParam(), at::kFloat);
    const Tensors results = empty.run(ops::head_norm_gate);
    EXPECT_EQ(results[0].sizes(), empty.gradient.sizes());
    for (const size_t i : {3, 4}) EXPECT_TRUE(at::equal(results[i], at::zeros_like(results[i])));
  }
}

TEST_P(HeadNormGate, GivesEqualBitsInEveryRun) {
  at::manual_seed(6);
  const Case inputs = random_case(64, 196, 3).to(GetParam(), at::kBFloat16);
  const Tensors first = inputs.run(ops::head_norm_gate), second = inputs.run(ops::head_norm_gate);
  for (size_t i = 0; i < first.size(); ++i) EXPECT_TRUE(at::equal(first[i], second[i])) << "result " << i;
}

TEST_P(HeadNormGate, KeepsItsDtypeUnderAutocast) {
  at::manual_seed(7);
  const Case inputs = random_case(2, 3, 2).to(GetParam(), at::kBFloat16);
  const at::Tensor plain = inputs.call(ops::head_norm_gate);
  const AutocastGuard autocast(GetParam().type(), at::kBFloat16);
  const at::Tensor under = inputs.call(ops::head_norm_gate);
  EXPECT_EQ(under.scalar_type(), at::kBFloat16);
  EXPECT_TRUE(at::equal(plain, under));
}

TEST_P(HeadNormGate, NamesWhatIsWrongWithItsArguments) {
  const Case good = random_case(2, 3, 2).to(GetParam(), at::kFloat);
  const auto expect_error = [&](const std::string& part, const auto& change) {
    Case wrong = good;
    change(wrong);
    try {
      wrong.call(ops::head_norm_gate);
      ADD_FAILURE() << "no error; expected: " << part;
    } catch (const c10::Error& error) {
      EXPECT_NE(std::string(error.what()).find("head_norm_gate: " + part), std::string::npos) << error.what();
    }
  };
  expect_error("y must be [B, T, C], got [3, 128]", [](Case& c) { c.leaves[0] = c.leaves[0][0]; });
  expect_error("heads must divide the C = 128 channels of y, got 3", [](Case& c) { c.heads = 3; });
  expect_error("heads must divide the C = 128 channels of y, got 0", [](Case& c) { c.heads = 0; });
  expect_error("gate must have the shape of y, [2, 3, 128], got [2, 2, 128]",
               [](Case& c) { c.leaves[1] = c.leaves[1].slice(1, 1); });
  expect_error("gate must have the dtype of y, Float, got Half",
               [](Case& c) { c.leaves[1] = c.leaves[1].to(at::kHalf); });
  expect_error("weight must be [C] = [128], got [127]", [](Case& c) { c.leaves[2] = c.leaves[2].slice(0, 1); });
  expect_error("bias must be Float", [](Case& c) { c.leaves[3] = c.leaves[3].to(at::kDouble); });
  expect_error("y must be float64, float32, bfloat16 or float16, got Long",
               [](Case& c) { c.leaves[0] = c.leaves[0].to(at::kLong); });
  if (GetParam().is_cuda()) {
    expect_error("gate must be on the device of y", [](Case& c) { c.leaves[1] = c.leaves[1].cpu(); });
  }
}

}  // namespace
}  // namespace vrwkv::testing

#include "ops/token_shift_blend.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "tests/support/assert_close.h"
#include "tests/support/devices.h"
#include "tests/support/q_shift_reference.h"
#include "vrwkv/autocast.h"

namespace vrwkv::testing {
namespace {

using Tensors = std::vector<at::Tensor>;

/// x, shares, weight, bias and the constants; the gradients of the outputs.
struct Case {
  int64_t height, width;
  std::optional<int64_t> group;
  bool affine;
  at::Tensor x, shares, weight, bias;
  Tensors constants, gradients;

  Case to(at::Device device, at::ScalarType dtype) const {
    const auto parameters = dtype == at::kDouble ? at::kDouble : at::kFloat;
    Case result = *this;
    for (at::Tensor* tensor : {&result.x, &result.shares}) *tensor = tensor->to(device, dtype);
    for (at::Tensor* tensor : {&result.weight, &result.bias}) *tensor = tensor->to(device, parameters);
    for (auto& constant : result.constants) constant = constant.to(device, parameters);
    for (auto& gradient : result.gradients) gradient = gradient.to(device, dtype);
    return result;
  }

  /// The outputs, then the gradients of x, shares, the constants, weight and bias (with affine).
  template <typename Op>
  Tensors run(const Op& op) const {
    Tensors leaves{x.detach().requires_grad_(), shares.detach().requires_grad_()};
    for (const auto& constant : constants) leaves.push_back(constant.detach().requires_grad_());
    const Tensors used(leaves.begin() + 2, leaves.end());
    if (affine) leaves.insert(leaves.end(), {weight.detach().requires_grad_(), bias.detach().requires_grad_()});
    Tensors results = op(leaves[0], used, leaves[1], affine ? std::optional(leaves[7]) : std::nullopt,
                         affine ? std::optional(leaves[8]) : std::nullopt, height, width, group);
    const Tensors grads = torch::autograd::grad(results, leaves, gradients);
    results.insert(results.end(), grads.begin(), grads.end());
    return results;
  }
};

struct Size {
  int64_t batch, height, width, channels;
  std::optional<int64_t> group = 64;
};

Case random_case(const Size& size, bool affine) {
  const auto options = at::TensorOptions(at::kDouble);
  const int64_t channels = size.channels;
  const auto tokens = [&] { return at::randn({size.batch, size.height * size.width, channels}, options); };
  const auto parameter = [&] { return at::randn({channels}, options); };
  Case result{size.height, size.width,  size.group,
              affine,      tokens(),    at::randn({5, size.batch, size.height * size.width, channels}, options),
              parameter(), parameter(), {},
              {}};
  for (size_t i = 0; i < 5; ++i) {
    result.constants.push_back(i % 2 == 0 ? at::rand({1, 1, channels}, options) : parameter());
    result.gradients.push_back(tokens());
  }
  return result;
}

/// The formula.
Tensors reference(const at::Tensor& x, at::TensorList constants, const at::Tensor& shares,
                  const std::optional<at::Tensor>& weight, const std::optional<at::Tensor>& bias, int64_t height,
                  int64_t width, std::optional<int64_t> group) {
  const at::Tensor n = weight ? x * *weight + *bias : x;
  const at::Tensor shifted = q_shift_reference(n, height, width, group.value_or(x.size(2)));
  Tensors outputs;
  for (size_t j = 0; j < 5; ++j) {
    outputs.push_back(n + (shifted - n) * (constants[j].flatten() + shares[static_cast<int64_t>(j)]));
  }
  return outputs;
}

void expect_close(const Tensors& expected, const Tensors& actual, double tolerance) {
  ASSERT_EQ(expected.size(), actual.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_TRUE(close("result " + std::to_string(i), expected[i], actual[i], tolerance));
  }
}

class TokenShiftBlend : public ::testing::TestWithParam<at::Device> {};

INSTANTIATE_TEST_SUITE_P(Devices, TokenShiftBlend, ::testing::ValuesIn(devices()), device_name);

struct Precision {
  at::ScalarType dtype;
  double tolerance;
};

TEST_P(TokenShiftBlend, MatchesTheFormula) {
  at::manual_seed(1);
  for (const auto& [dtype, tolerance] :
       {Precision{at::kDouble, 1e-13}, {at::kFloat, 1e-5}, {at::kBFloat16, 1e-2}, {at::kHalf, 2e-3}}) {
    for (const Size& size : {Size{1, 1, 1, 64},
                             {2, 1, 6, 64},
                             {3, 7, 1, 128},
                             {2, 14, 14, 192},
                             {1, 3, 5, 768},
                             {2, 4, 3, 1024, 128},
                             {1, 20, 30, 64, 32},
                             {2, 3, 3, 33, 11},
                             {2, 2, 5, 7, std::nullopt},
                             {1, 3, 2, 1100, std::nullopt},
                             {2, 4, 4, 96, std::nullopt}}) {
      for (const bool affine : {false, true}) {
        SCOPED_TRACE(c10::str(dtype, " B ", size.batch, " grid ", size.height, "x", size.width, " C ", size.channels,
                              " group ", size.group.value_or(0), " affine ", affine));
        const Case rounded = random_case(size, affine).to(GetParam(), dtype);
        const Tensors actual = rounded.run(ops::token_shift_blend);
        for (size_t i = 0; i < 7; ++i) EXPECT_EQ(actual[i].scalar_type(), dtype);
        expect_close(rounded.to(at::kCPU, at::kDouble).run(reference), actual, tolerance);
      }
    }
  }
}

TEST_P(TokenShiftBlend, SumsOverManyImages) {
  at::manual_seed(2);
  const Case inputs = random_case({1500, 2, 3, 16, 8}, true).to(GetParam(), at::kFloat);
  expect_close(inputs.to(at::kCPU, at::kDouble).run(reference), inputs.run(ops::token_shift_blend), 1e-5);
}

/// What the gradients promise: the change of the outputs where the arguments change a little.
TEST_P(TokenShiftBlend, ItsGradientsAreItsDerivatives) {
  at::manual_seed(3);
  const Case inputs = random_case({2, 3, 2, 8, 8}, true).to(GetParam(), at::kDouble);
  const Tensors results = inputs.run(ops::token_shift_blend);
  const auto weighted = [&](const Case& at_point) {
    const Tensors outputs = ops::token_shift_blend(at_point.x, at_point.constants, at_point.shares, at_point.weight,
                                                   at_point.bias, 3, 2, at_point.group);
    double sum = 0;
    for (size_t j = 0; j < 5; ++j) sum += (outputs[j] * inputs.gradients[j]).sum().item<double>();
    return sum;
  };
  const auto tensors = [](Case& of) {
    std::vector<at::Tensor*> all{&of.x, &of.shares};
    for (auto& constant : of.constants) all.push_back(&constant);
    all.insert(all.end(), {&of.weight, &of.bias});
    return all;
  };
  for (size_t i = 0; i < 9; ++i) {
    const double step = 1e-4;
    Case ahead = inputs, behind = inputs;
    const at::Tensor direction = at::randn_like(*tensors(ahead)[i]);
    *tensors(ahead)[i] = *tensors(ahead)[i] + step * direction;
    *tensors(behind)[i] = *tensors(behind)[i] - step * direction;
    const double expected = (weighted(ahead) - weighted(behind)) / (2 * step);
    EXPECT_NEAR((results[5 + i] * direction).sum().item<double>(), expected, 1e-6 * (1 + std::abs(expected)));
  }
}

TEST_P(TokenShiftBlend, TakesAnyMemoryLayoutAndUnalignedTensors) {
  at::manual_seed(4);
  const Case inputs = random_case({2, 4, 6, 64}, true).to(GetParam(), at::kFloat);
  const Tensors expected = inputs.run(ops::token_shift_blend);
  const auto unaligned = [](const at::Tensor& tensor) {
    const at::Tensor storage = at::empty({tensor.numel() + 1}, tensor.options());
    storage.slice(0, 1).copy_(tensor.flatten());
    return storage.slice(0, 1).view(tensor.sizes());
  };
  Case moved = inputs;
  moved.x = inputs.x.transpose(1, 2).contiguous().transpose(1, 2);
  moved.shares = inputs.shares.permute({1, 2, 0, 3}).contiguous().permute({2, 0, 1, 3});
  moved.gradients[1] = inputs.gradients[1].transpose(0, 1).contiguous().transpose(0, 1);
  expect_close(expected, moved.run(ops::token_shift_blend), 1e-6);
  moved = inputs;
  moved.x = unaligned(inputs.x);
  moved.constants[3] = unaligned(inputs.constants[3]);
  expect_close(expected, moved.run(ops::token_shift_blend), 1e-6);
}

TEST_P(TokenShiftBlend, AcceptsEmptyTensorsAndUnusedOutputs) {
  for (const auto& [batch, channels] : {std::pair<int64_t, int64_t>{0, 64}, {2, 0}}) {
    const Case empty = random_case({batch, 2, 2, channels, std::nullopt}, true).to(GetParam(), at::kFloat);
    const Tensors results = empty.run(ops::token_shift_blend);
    EXPECT_EQ(results[0].sizes(), empty.x.sizes());
    EXPECT_EQ(results[6].sizes(), empty.shares.sizes());
    EXPECT_EQ(results[7].sum().item<float>(), 0.0F);
  }
  at::manual_seed(5);
  const Case inputs = random_case({2, 3, 3, 64}, false).to(GetParam(), at::kDouble);
  const auto gradient = [&](const auto& op) {
    const at::Tensor shares = inputs.shares.detach().requires_grad_();
    const Tensors outputs = op(inputs.x, inputs.constants, shares, std::nullopt, std::nullopt, 3, 3, inputs.group);
    return torch::autograd::grad({outputs[2].sum()}, {shares})[0];
  };
  EXPECT_TRUE(close("gshares", gradient(reference), gradient(ops::token_shift_blend), 1e-13));
}

TEST_P(TokenShiftBlend, GivesEqualBitsInEveryRun) {
  at::manual_seed(6);
  const Case inputs = random_case({64, 14, 14, 192}, true).to(GetParam(), at::kBFloat16);
  const Tensors first = inputs.run(ops::token_shift_blend), second = inputs.run(ops::token_shift_blend);
  for (size_t i = 0; i < first.size(); ++i) EXPECT_TRUE(at::equal(first[i], second[i])) << "result " << i;
}

TEST_P(TokenShiftBlend, KeepsItsDtypeUnderAutocast) {
  at::manual_seed(7);
  const Case inputs = random_case({2, 3, 3, 64}, true).to(GetParam(), at::kBFloat16);
  const Tensors plain = inputs.run(ops::token_shift_blend);
  const AutocastGuard autocast(GetParam().type(), at::kBFloat16);
  const Tensors under =
      ops::token_shift_blend(inputs.x, inputs.constants, inputs.shares, inputs.weight, inputs.bias, 3, 3, inputs.group);
  EXPECT_TRUE(at::equal(plain[0], under[0]));
  EXPECT_EQ(under[4].scalar_type(), at::kBFloat16);
}

TEST_P(TokenShiftBlend, NamesWhatIsWrongWithItsArguments) {
  const Case good = random_case({2, 2, 3, 64}, true).to(GetParam(), at::kFloat);
  const auto expect_error = [&](const std::string& part, const Tensors& constants, const at::Tensor& shares,
                                int64_t group) {
    try {
      ops::token_shift_blend(good.x, constants, shares, {}, {}, 2, 3, group);
      ADD_FAILURE() << "no error; expected: " << part;
    } catch (const c10::Error& error) {
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
    }
  };
  expect_error("group must divide the C = 64 channels of x, got 48", good.constants, good.shares, 48);
  expect_error("token_shift_blend: constants must be 5 tensors, got 1", {good.constants[0]}, good.shares, 64);
  Tensors wrong = good.constants;
  wrong[2] = wrong[2].flatten().slice(0, 1);
  expect_error("token_shift_blend: constants[2] must be [C] or [1, 1, C] with C = 64, got [63]", wrong, good.shares,
               64);
  expect_error("token_shift_blend: shares must be [5, B, T, C] = [5, 2, 6, 64], got [4, 2, 6, 64]", good.constants,
               good.shares.slice(0, 1), 64);
  expect_error("token_shift_blend: shares must have the dtype of x, Float, got Double", good.constants,
               good.shares.to(at::kDouble), 64);
  if (GetParam().is_cuda()) {
    expect_error("token_shift_blend: shares must be on the device of x", good.constants, good.shares.cpu(), 64);
  }
}

}  // namespace
}  // namespace vrwkv::testing

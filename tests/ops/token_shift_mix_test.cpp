#include "ops/token_shift_mix.h"

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

/// x, weight, bias and the mixes; the gradients of the outputs.
struct Case {
  int64_t height, width;
  bool affine;
  at::Tensor x, weight, bias;
  Tensors mixes, gradients;
  std::optional<int64_t> group = std::nullopt;

  Case to(at::Device device, at::ScalarType dtype) const {
    const auto parameters = dtype == at::kDouble ? at::kDouble : at::kFloat;
    Case result{height, width, affine, x.to(device, dtype), weight.to(device, parameters), bias.to(device, parameters),
                {},     {},    group};
    for (const auto& mix : mixes) result.mixes.push_back(mix.to(device, parameters));
    for (const auto& gradient : gradients) result.gradients.push_back(gradient.to(device, dtype));
    return result;
  }

  /// The outputs, then the gradients of x, weight, bias (with affine) and the mixes.
  template <typename Op>
  Tensors run(const Op& op) const {
    Tensors leaves{x.detach().requires_grad_()};
    if (affine) leaves.insert(leaves.end(), {weight.detach().requires_grad_(), bias.detach().requires_grad_()});
    const size_t first_mix = leaves.size();
    for (const auto& mix : mixes) leaves.push_back(mix.detach().requires_grad_());
    const Tensors used(leaves.begin() + static_cast<int64_t>(first_mix), leaves.end());
    Tensors results = op(leaves[0], used, affine ? std::optional(leaves[1]) : std::nullopt,
                         affine ? std::optional(leaves[2]) : std::nullopt, height, width, group);
    const Tensors grads = torch::autograd::grad(results, leaves, gradients);
    results.insert(results.end(), grads.begin(), grads.end());
    return results;
  }
};

Case random_case(int64_t batch, int64_t height, int64_t width, int64_t channels, size_t mixes, bool affine) {
  const auto options = at::TensorOptions(at::kDouble);
  const auto tokens = [&] { return at::randn({batch, height * width, channels}, options); };
  Case result{height, width, affine, tokens(), at::randn({channels}, options), at::randn({channels}, options), {}, {}};
  for (size_t i = 0; i < mixes; ++i) {
    result.mixes.push_back(i % 2 == 0 ? at::rand({1, 1, channels}, options) : at::randn({channels}, options));
    result.gradients.push_back(tokens());
  }
  return result;
}

/// The formula.
Tensors reference(const at::Tensor& x, at::TensorList mixes, const std::optional<at::Tensor>& weight,
                  const std::optional<at::Tensor>& bias, int64_t height, int64_t width, std::optional<int64_t> group) {
  const at::Tensor n = weight ? x * *weight + *bias : x;
  const at::Tensor shifted = q_shift_reference(n, height, width, group.value_or(x.size(2)));
  Tensors outputs;
  for (const auto& mix : mixes) outputs.push_back(n * mix.flatten() + shifted * (1 - mix.flatten()));
  return outputs;
}

void expect_close(const Tensors& expected, const Tensors& actual, double tolerance) {
  ASSERT_EQ(expected.size(), actual.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_TRUE(close("result " + std::to_string(i), expected[i], actual[i], tolerance));
  }
}

class TokenShiftMix : public ::testing::TestWithParam<at::Device> {};

INSTANTIATE_TEST_SUITE_P(Devices, TokenShiftMix, ::testing::ValuesIn(devices()), device_name);

struct Precision {
  at::ScalarType dtype;
  double tolerance;
};

TEST_P(TokenShiftMix, MatchesTheFormula) {
  at::manual_seed(1);
  struct Size {
    int64_t batch, height, width, channels;
  };
  for (const auto& [dtype, tolerance] :
       {Precision{at::kDouble, 1e-13}, {at::kFloat, 1e-5}, {at::kBFloat16, 1e-2}, {at::kHalf, 2e-3}}) {
    for (const Size& size : {Size{1, 1, 1, 1},
                             {2, 1, 5, 3},
                             {3, 4, 1, 7},
                             {2, 3, 5, 16},
                             {2, 14, 14, 192},
                             {1, 5, 7, 33},
                             {3, 2, 2, 64},
                             {1, 32, 40, 96},
                             {2, 3, 3, 1100},
                             {5, 7, 3, 4}}) {
      for (const size_t mixes : {1, 2, 3}) {
        for (const bool affine : {false, true}) {
          SCOPED_TRACE(c10::str(dtype, " B ", size.batch, " grid ", size.height, "x", size.width, " C ", size.channels,
                                " mixes ", mixes, " affine ", affine));
          const Case rounded =
              random_case(size.batch, size.height, size.width, size.channels, mixes, affine).to(GetParam(), dtype);
          const Tensors actual = rounded.run(ops::token_shift_mix);
          EXPECT_EQ(actual[0].scalar_type(), dtype);
          expect_close(rounded.to(at::kCPU, at::kDouble).run(reference), actual, tolerance);
        }
      }
    }
  }
}

TEST_P(TokenShiftMix, ShiftsEachGroupOnItsOwn) {
  at::manual_seed(7);
  struct Size {
    int64_t batch, height, width, channels, group;
  };
  for (const auto& [dtype, tolerance] : {Precision{at::kDouble, 1e-13}, {at::kFloat, 1e-5}, {at::kBFloat16, 1e-2}}) {
    for (const Size& size : {Size{1, 1, 1, 64, 64},
                             {2, 1, 6, 64, 64},
                             {2, 14, 14, 192, 64},
                             {2, 7, 1, 768, 64},
                             {3, 2, 5, 96, 32},
                             {2, 3, 4, 15, 5},
                             {1, 4, 4, 6, 1},
                             {1, 3, 3, 1100, 20}}) {
      for (const size_t mixes : {1, 2}) {
        SCOPED_TRACE(c10::str(dtype, " B ", size.batch, " grid ", size.height, "x", size.width, " C ", size.channels,
                              " groups of ", size.group, " mixes ", mixes));
        Case rounded =
            random_case(size.batch, size.height, size.width, size.channels, mixes, true).to(GetParam(), dtype);
        rounded.group = size.group;
        expect_close(rounded.to(at::kCPU, at::kDouble).run(reference), rounded.run(ops::token_shift_mix), tolerance);
      }
    }
  }
}

TEST_P(TokenShiftMix, SumsOverManyImages) {
  at::manual_seed(2);
  const Case inputs = random_case(1500, 2, 3, 8, 2, true).to(GetParam(), at::kFloat);
  expect_close(inputs.to(at::kCPU, at::kDouble).run(reference), inputs.run(ops::token_shift_mix), 1e-5);
}

TEST_P(TokenShiftMix, TakesAnyMemoryLayoutAndUnalignedTensors) {
  at::manual_seed(3);
  Case inputs = random_case(2, 4, 6, 32, 3, true).to(GetParam(), at::kFloat);
  const Tensors expected = inputs.run(ops::token_shift_mix);
  const at::Tensor storage = at::empty({inputs.x.numel() + 1}, inputs.x.options());
  storage.slice(0, 1).copy_(inputs.x.flatten());
  Case moved = inputs;
  moved.x = storage.slice(0, 1).view(inputs.x.sizes());
  moved.gradients[1] = inputs.gradients[1].transpose(0, 1).contiguous().transpose(0, 1);
  expect_close(expected, moved.run(ops::token_shift_mix), 1e-6);
}

TEST_P(TokenShiftMix, AcceptsEmptyTensorsAndUnusedOutputs) {
  for (const auto& [batch, channels] : {std::pair<int64_t, int64_t>{0, 8}, {2, 0}}) {
    const Case empty = random_case(batch, 2, 2, channels, 2, true).to(GetParam(), at::kFloat);
    EXPECT_EQ(empty.run(ops::token_shift_mix)[0].sizes(), empty.x.sizes());
  }
  at::manual_seed(4);
  const Case inputs = random_case(2, 3, 3, 8, 3, false).to(GetParam(), at::kDouble);
  const auto gradient = [&](const auto& op) {
    const at::Tensor x = inputs.x.detach().requires_grad_();
    const Tensors outputs = op(x, inputs.mixes, std::nullopt, std::nullopt, 3, 3, std::nullopt);
    return torch::autograd::grad({outputs[1].sum()}, {x})[0];
  };
  EXPECT_TRUE(close("gx", gradient(reference), gradient(ops::token_shift_mix), 1e-13));
}

TEST_P(TokenShiftMix, GivesEqualBitsInEveryRun) {
  at::manual_seed(5);
  const Case inputs = random_case(64, 14, 14, 96, 3, true).to(GetParam(), at::kBFloat16);
  const Tensors first = inputs.run(ops::token_shift_mix), second = inputs.run(ops::token_shift_mix);
  for (size_t i = 0; i < first.size(); ++i) EXPECT_TRUE(at::equal(first[i], second[i])) << "result " << i;
}

TEST_P(TokenShiftMix, KeepsItsDtypeUnderAutocast) {
  at::manual_seed(6);
  const Case inputs = random_case(2, 3, 3, 8, 2, true).to(GetParam(), at::kBFloat16);
  const Tensors plain = inputs.run(ops::token_shift_mix);
  const AutocastGuard autocast(GetParam().type(), at::kBFloat16);
  const Tensors under = ops::token_shift_mix(inputs.x, inputs.mixes, inputs.weight, inputs.bias, 3, 3);
  EXPECT_TRUE(at::equal(plain[0], under[0]));
  EXPECT_EQ(under[1].scalar_type(), at::kBFloat16);
}

TEST_P(TokenShiftMix, NamesWhatIsWrongWithItsArguments) {
  const Case good = random_case(2, 2, 3, 8, 2, true).to(GetParam(), at::kFloat);
  const auto expect_error = [&](const std::string& part, const at::Tensor& x, const Tensors& mixes,
                                const std::optional<at::Tensor>& weight, const std::optional<at::Tensor>& bias) {
    try {
      ops::token_shift_mix(x, mixes, weight, bias, 2, 3);
      ADD_FAILURE() << "no error; expected: " << part;
    } catch (const c10::Error& error) {
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
    }
  };
  expect_error("height * width", good.x.slice(1, 0, 5), good.mixes, {}, {});
  expect_error("mixes must be 1 to 3 tensors, got 0", good.x, {}, {}, {});
  expect_error("mixes[1] must be [C] or [1, 1, C] with C = 8, got [7]", good.x,
               {good.mixes[0], good.mixes[1].slice(0, 1)}, {}, {});
  expect_error("mixes[0] must be Float", good.x, {good.mixes[0].to(at::kDouble)}, {}, {});
  expect_error("weight and bias must be given together, got weight alone", good.x, good.mixes, good.weight, {});
  try {
    ops::token_shift_mix(good.x, good.mixes, {}, {}, 2, 3, 3);
    ADD_FAILURE() << "no error";
  } catch (const c10::Error& error) {
    EXPECT_NE(std::string(error.what()).find("group must divide the C = 8 channels of x, got 3"), std::string::npos);
  }
  if (GetParam().is_cuda()) {
    expect_error("weight must be on the device of x", good.x, good.mixes, good.weight.cpu(), good.bias);
  }
}

}  // namespace
}  // namespace vrwkv::testing

#include "ops/patch_embed.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "tests/support/assert_close.h"
#include "tests/support/devices.h"

namespace vrwkv::testing {
namespace {

class PatchEmbedOp : public ::testing::TestWithParam<at::Device> {
 protected:
  static at::Tensor draw(at::IntArrayRef sizes, at::ScalarType dtype = at::kFloat) {
    return at::randn(sizes, at::kDouble).to(GetParam(), dtype).requires_grad_();
  }
  static at::Tensor wide(const at::Tensor& tensor) { return tensor.detach().to(at::kCPU, at::kDouble); }

  /// Images, weight, bias and places.
  struct Inputs {
    at::Tensor images, weight, bias, places;
  };
  static Inputs inputs(at::IntArrayRef sizes, int64_t channels, int64_t patch, at::ScalarType dtype) {
    const int64_t tokens = sizes[2] / patch * (sizes[3] / patch);
    return {draw(sizes, dtype).detach(), draw({channels, sizes[1], patch, patch}, dtype), draw({channels}, dtype),
            draw({1, tokens, channels}, dtype)};
  }

  /// The convolution in float64, with pixels and weights as the product takes them.
  static at::Tensor expected(const Inputs& of, at::ScalarType dtype) {
    const int64_t patch = of.weight.size(2);
    const at::Tensor maps = at::conv2d(wide(of.images.to(dtype)), wide(of.weight.to(dtype)), {}, {patch, patch});
    return maps.flatten(2).transpose(1, 2) + wide(of.bias) + wide(of.places);
  }
};

INSTANTIATE_TEST_SUITE_P(Devices, PatchEmbedOp, ::testing::ValuesIn(devices()), device_name);

struct Shape {
  std::vector<int64_t> sizes;
  int64_t channels, patch;
};

const std::vector<Shape>& shapes() {
  static const std::vector<Shape> all{{{1, 3, 16, 16}, 192, 16},  {{2, 3, 48, 80}, 192, 16},  {{5, 1, 32, 48}, 192, 16},
                                      {{9, 3, 96, 112}, 192, 16}, {{3, 4, 64, 64}, 192, 16},  {{2, 3, 32, 32}, 24, 16},
                                      {{2, 3, 32, 32}, 192, 8},   {{3, 3, 224, 224}, 192, 16}};
  return all;
}

TEST_P(PatchEmbedOp, IsTheConvolutionAndThePlaces) {
  at::manual_seed(1);
  for (const auto& [sizes, channels, patch] : shapes()) {
    for (const auto& [weights, dtype] : {std::pair{at::kDouble, at::kDouble},
                                         {at::kFloat, at::kFloat},
                                         {at::kFloat, at::kBFloat16},
                                         {at::kFloat, at::kHalf}}) {
      SCOPED_TRACE(c10::str(at::IntArrayRef(sizes), " to ", channels, " channels, ", dtype));
      const Inputs in = inputs(sizes, channels, patch, weights);
      const double rounding = dtype == at::kBFloat16 ? 4e-3 : (dtype == at::kHalf ? 1e-3 : 1e-6);
      const at::Tensor tokens = ops::patch_embed(in.images, in.weight, in.bias, in.places, dtype);
      EXPECT_EQ(tokens.scalar_type(), dtype);
      EXPECT_TRUE(close("tokens", expected(in, dtype), tokens.detach(), rounding));
      const at::NoGradGuard no_grad;
      EXPECT_TRUE(at::equal(tokens, ops::patch_embed(in.images, in.weight, in.bias, in.places, dtype)));
    }
  }
}

TEST_P(PatchEmbedOp, HasTheGradientsOfTheConvolution) {
  at::manual_seed(2);
  for (const auto& [sizes, channels, patch] : shapes()) {
    for (const auto dtype : {at::kFloat, at::kBFloat16}) {
      SCOPED_TRACE(c10::str(at::IntArrayRef(sizes), " to ", channels, " channels, ", dtype));
      const Inputs in = inputs(sizes, channels, patch, at::kFloat);
      const at::Tensor tokens = ops::patch_embed(in.images, in.weight, in.bias, in.places, dtype);
      const at::Tensor gradient = at::randn(tokens.sizes(), at::kDouble).to(GetParam(), dtype);
      tokens.backward(gradient);
      Inputs exact{wide(in.images.to(dtype)), wide(in.weight).requires_grad_(), wide(in.bias).requires_grad_(),
                   wide(in.places).requires_grad_()};
      const at::Tensor maps = at::conv2d(exact.images, exact.weight, exact.bias, {patch, patch});
      (maps.flatten(2).transpose(1, 2) + exact.places).backward(wide(gradient));
      // The CPU's product gives a gradient in the weight's dtype, too, but rounds where autocast does not.
      const double rounding = dtype == at::kBFloat16 && !in.images.is_cuda() ? 4e-3 : 2e-6;
      EXPECT_TRUE(close("weight", exact.weight.grad(), in.weight.grad(), rounding));
      EXPECT_TRUE(close("bias", exact.bias.grad(), in.bias.grad(), 2e-6));
      EXPECT_TRUE(close("places", exact.places.grad(), in.places.grad(), 2e-6));
    }
  }
}

TEST_P(PatchEmbedOp, HasTheGradientOfImagesAndOfSomeParameters) {
  at::manual_seed(3);
  Inputs in = inputs({2, 3, 32, 48}, 192, 16, at::kFloat);
  in.images.requires_grad_();
  const at::Tensor tokens =
      ops::patch_embed(in.images, in.weight.detach(), in.bias.detach(), in.places.detach(), at::kBFloat16);
  const at::Tensor gradient = at::randn(tokens.sizes(), at::kDouble).to(GetParam(), at::kBFloat16);
  tokens.backward(gradient);
  const at::Tensor exact = wide(in.images).requires_grad_();
  at::conv2d(exact, wide(in.weight), {}, {16, 16}).flatten(2).transpose(1, 2).backward(wide(gradient));
  EXPECT_TRUE(close("images", exact.grad(), in.images.grad(), 8e-3));
  const at::Tensor images = in.images.detach();
  ops::patch_embed(images, in.weight.detach(), in.bias, in.places.detach(), at::kBFloat16).backward(gradient);
  EXPECT_TRUE(close("bias", wide(gradient).sum(at::IntArrayRef{0, 1}), in.bias.grad(), 2e-6));
}

TEST_P(PatchEmbedOp, NamesWhatIsWrong) {
  const Inputs in = inputs({2, 3, 32, 48}, 192, 16, at::kFloat);
  const auto run = [](const Inputs& of) { ops::patch_embed(of.images, of.weight, of.bias, of.places, at::kBFloat16); };
  EXPECT_THROW(run({in.images[0], in.weight, in.bias, in.places}), c10::Error);
  EXPECT_THROW(run({in.images.narrow(2, 0, 20), in.weight, in.bias, in.places}), c10::Error);
  EXPECT_THROW(run({in.images.narrow(1, 0, 2), in.weight, in.bias, in.places}), c10::Error);
  EXPECT_THROW(run({in.images, in.weight, in.bias.narrow(0, 0, 5), in.places}), c10::Error);
  EXPECT_THROW(run({in.images, in.weight, in.bias, in.places.narrow(1, 0, 5)}), c10::Error);
}

}  // namespace
}  // namespace vrwkv::testing

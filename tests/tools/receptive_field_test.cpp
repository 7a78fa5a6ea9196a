#include "tools/receptive_field.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "tests/support/assert_close.h"

namespace vrwkv::tools {
namespace {

using vrwkv::testing::close;

const eval::Precision kDouble{at::kCPU, config::Dtype::float64};
constexpr int64_t kChannels = 8;

Vrwkv small_network() {
  at::manual_seed(4);
  VrwkvOptions options;
  options.img_size = 12;
  options.patch_size = 4;
  options.embed_dims = kChannels;
  options.depth = 2;
  Vrwkv backbone(options);
  backbone->to(at::kDouble);
  backbone->eval();
  for (const at::Tensor& parameter : backbone->parameters()) parameter.detach().add_(0.3 * at::randn_like(parameter));
  return backbone;
}

/// By central differences of the network's outputs, no derivative asked for.
at::Tensor by_differences(Vrwkv& backbone, const at::Tensor& images) {
  const c10::AutoGradMode off(false);
  constexpr double kStep = 1e-5;
  const auto centre = [&](const at::Tensor& input) {
    const at::Tensor map = backbone->forward(input).front();
    return map.select(2, map.size(2) / 2).select(2, map.size(3) / 2).clone();
  };
  at::Tensor squares = at::zeros({images.size(2), images.size(3)}, at::kDouble);
  for (int64_t color = 0; color < 3; ++color) {
    for (int64_t y = 0; y < images.size(2); ++y) {
      for (int64_t x = 0; x < images.size(3); ++x) {
        const auto moved = [&](double by) {
          at::Tensor input = images.clone();
          input.select(1, color).select(1, y).select(1, x).add_(by);
          return centre(input);
        };
        squares[y][x] += ((moved(kStep) - moved(-kStep)) / (2 * kStep)).square().sum(1).mean();
      }
    }
  }
  return squares.sqrt();
}

TEST(ReceptiveField, IsTheSizeOfTheDerivatives) {
  Vrwkv backbone = small_network();
  const at::Tensor images = at::randn({2, 3, 8, 12}, at::kDouble);
  const at::Tensor field = receptive_field(backbone, images, kChannels, 0, kDouble);
  EXPECT_TRUE(close("field", by_differences(backbone, images), field, 1e-8));
  for (const at::Tensor& parameter : backbone->parameters()) EXPECT_FALSE(parameter.grad().defined());
}

// The mean over many draws of what random signs send back.
TEST(ReceptiveField, FewProbesEstimateIt) {
  Vrwkv backbone = small_network();
  const at::Tensor images = at::randn({1, 3, 8, 8}, at::kDouble);
  const at::Tensor exact = receptive_field(backbone, images, kChannels, 0, kDouble).square();
  at::Tensor mean = at::zeros_like(exact);
  constexpr int64_t kDraws = 400, kProbes = 5;
  for (int64_t seed = 0; seed < kDraws; ++seed) {
    mean += receptive_field(backbone, images, kProbes, seed, kDouble).square() / static_cast<double>(kDraws);
  }
  // Each probe's square has at most twice the spread of its mean: 1.5 / sqrt(400 * 5) is 3 %.
  EXPECT_TRUE(close("mean of the squares", exact, mean, 0.07));
  const at::Tensor one = receptive_field(backbone, images, kProbes, 7, kDouble);
  EXPECT_TRUE(one.equal(receptive_field(backbone, images, kProbes, 7, kDouble)));
  EXPECT_FALSE(one.equal(receptive_field(backbone, images, kProbes, 8, kDouble)));
}

}  // namespace
}  // namespace vrwkv::tools

#include "tools/heat_picture.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/types.h>

namespace vrwkv::tools {
namespace {

TEST(HeatColors, RiseInBrightness) {
  const at::Tensor colors = heat_colors(at::linspace(0, 1, 301).view({1, -1}));
  EXPECT_EQ(colors.dtype(), at::kByte);
  EXPECT_TRUE(colors[0][0].equal(torch::tensor({0, 0, 0}, at::kByte)));
  EXPECT_TRUE(colors[0][300].equal(torch::tensor({255, 250, 190}, at::kByte)));
  // Of the primaries of ITU-R BT.601.
  const at::Tensor brightness = (colors[0].to(at::kDouble) * torch::tensor({0.299, 0.587, 0.114}, at::kDouble)).sum(1);
  EXPECT_GT(brightness.diff().min().item<double>(), -0.5);
  EXPECT_GT((brightness.slice(0, 10) - brightness.slice(0, 0, -10)).min().item<double>(), 0.0);
  const at::Tensor outside = heat_colors(torch::tensor({{-3.0, 7.0}}, at::kDouble));
  EXPECT_TRUE(outside[0][0].equal(colors[0][0]));
  EXPECT_TRUE(outside[0][1].equal(colors[0][300]));
}

TEST(Scales, AreLogarithmicAndLinear) {
  const at::Tensor values = torch::tensor({{50.0, 5.0}, {0.05, 0.0}}, at::kDouble);
  EXPECT_TRUE(at::allclose(log_scaled(values, 2), torch::tensor({{1.0, 0.5}, {0.0, 0.0}}, at::kDouble)));
  EXPECT_TRUE(log_scaled(at::zeros({2, 2}), 2).equal(at::zeros({2, 2}, at::kDouble)));
  EXPECT_TRUE(at::allclose(range_scaled(torch::tensor({{-1.0, 0.0, 3.0}}, at::kDouble)),
                           torch::tensor({{0.0, 0.25, 1.0}}, at::kDouble)));
  EXPECT_TRUE(range_scaled(at::ones({1, 2})).equal(at::zeros({1, 2}, at::kDouble)));
}

TEST(HeatOverImage, HasTheImageTheHeatAndTheFrame) {
  at::Tensor image = at::full({12, 12, 3}, 101, at::kByte);
  image[4][4].copy_(torch::tensor({208, 30, 202}, at::kByte));  // 62.192 + 17.61 + 23.028 = 102.83
  const at::Tensor values = torch::tensor({{0.0, 1.0}, {0.0, 0.0}}, at::kDouble);
  const at::Tensor picture = heat_over_image(image, values, {1, 0});
  ASSERT_EQ(picture.sizes(), at::IntArrayRef({12, 12 + 8 + 12, 3}));
  EXPECT_TRUE(picture.narrow(1, 0, 12).equal(image));
  EXPECT_TRUE(picture.narrow(1, 12, 8).eq(255).all().item<bool>());
  const at::Tensor heated = picture.narrow(1, 20, 12);
  EXPECT_TRUE(heated[3][3].equal(at::full({3}, 35, at::kByte)));  // 0.35 of 101 and 0.65 of black
  EXPECT_TRUE(heated[4][4].equal(at::full({3}, 36, at::kByte)));  // 0.35 of 102.83
  EXPECT_TRUE(heated[3][8].equal(torch::tensor({201, 198, 159}, at::kByte)));
  EXPECT_TRUE(heated[6][0].equal(at::zeros({3}, at::kByte)));  // the frame: black, white, and what was there
  EXPECT_TRUE(heated[7][1].equal(at::full({3}, 255, at::kByte)));
  EXPECT_TRUE(heated[8][2].equal(at::full({3}, 35, at::kByte)));
  EXPECT_TRUE(heated[9][9].equal(at::full({3}, 35, at::kByte)));
}

TEST(Framed, StacksPicturesBesideTheScale) {
  const at::Tensor one = at::full({5, 6, 3}, 10, at::kByte), two = at::full({9, 6, 3}, 20, at::kByte);
  const at::Tensor whole = framed({one, two});
  ASSERT_EQ(whole.sizes(), at::IntArrayRef({8 + 5 + 8 + 9 + 8, 8 + 6 + 8 + 16 + 8, 3}));
  EXPECT_TRUE(whole.narrow(0, 8, 5).narrow(1, 8, 6).equal(one));
  EXPECT_TRUE(whole.narrow(0, 21, 9).narrow(1, 8, 6).equal(two));
  EXPECT_TRUE(whole[8][22].equal(torch::tensor({255, 250, 190}, at::kByte)));
  EXPECT_TRUE(whole[29][37].equal(at::zeros({3}, at::kByte)));
  EXPECT_TRUE(whole[14][10].equal(at::full({3}, 255, at::kByte)));
}

TEST(Enlarged, RepeatsPixels) {
  const at::Tensor picture = at::arange(12, at::kByte).view({2, 2, 3});
  const at::Tensor large = enlarged(picture, 3);
  ASSERT_EQ(large.sizes(), at::IntArrayRef({6, 6, 3}));
  for (int64_t y = 0; y < 6; ++y) {
    for (int64_t x = 0; x < 6; ++x) EXPECT_TRUE(large[y][x].equal(picture[y / 3][x / 3]));
  }
}

}  // namespace
}  // namespace vrwkv::tools

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "ops/bi_wkv6.h"
#include "tests/support/assert_close.h"
#include "vrwkv/layers/spatial_mix6.h"
#include "vrwkv/layers/token_shift.h"
#include "vrwkv/vrwkv_classifier.h"

namespace vrwkv::testing {
namespace {

VrwkvOptions small_options() {
  VrwkvOptions options;
  options.img_size = 32;
  options.patch_size = 8;
  options.embed_dims = 128;
  options.depth = 3;
  options.attention = Attention::bi_wkv6;
  return options;
}

/// The shift as it is defined, channel by channel: quarter g of every head reads a neighbour, 0 outside the grid.
at::Tensor head_shift_reference(const at::Tensor& x, Grid grid) {
  const at::Tensor y = at::zeros_like(x);
  for (int64_t c = 0; c < x.size(2); ++c) {
    const int64_t quarter = c % 64 / 16;
    const int64_t down = quarter == 2 ? -1 : quarter == 3 ? 1 : 0, right = quarter == 0 ? -1 : quarter == 1 ? 1 : 0;
    for (int64_t row = 0; row < grid.height; ++row) {
      for (int64_t column = 0; column < grid.width; ++column) {
        const int64_t i = row + down, j = column + right;
        if (i < 0 || i >= grid.height || j < 0 || j >= grid.width) continue;
        y.select(2, c).select(1, row * grid.width + column).copy_(x.select(2, c).select(1, i * grid.width + j));
      }
    }
  }
  return y;
}

TEST(HeadShift, ShiftsQuartersOfEachHead) {
  torch::manual_seed(1);
  for (const auto& grid : {Grid{1, 1}, {3, 5}, {4, 2}}) {
    for (const int64_t heads : {1, 3}) {
      const at::Tensor feed = at::randn({2, grid.tokens(), heads * 64}, at::kDouble);
      const at::Tensor weight = at::randn({heads * 64}, at::kDouble), bias = at::randn({heads * 64}, at::kDouble);
      EXPECT_TRUE(at::equal(shift_tokens(feed, grid, Shift::q_shift, 64), head_shift_reference(feed, grid)));
      const at::Tensor x = feed * weight + bias, difference = head_shift_reference(x, grid) - x;
      const ShiftOf shift{grid, Shift::q_shift, 64};
      const at::Tensor mix = at::randn({1, 1, heads * 64}, at::kDouble);
      EXPECT_TRUE(close("mixed", x + difference * (1 - mix), mix_tokens(feed, {weight, bias}, {mix}, shift)[0], 1e-14));
      const at::Tensor shares = at::randn({5, 2, grid.tokens(), heads * 64}, at::kDouble);
      const auto blended = blend_tokens(feed, {weight, bias}, {mix, mix, mix, mix, mix}, shares, shift);
      for (int64_t j = 0; j < 5; ++j) {
        EXPECT_TRUE(close("blended", x + difference * (mix + shares[j]), blended[static_cast<size_t>(j)], 1e-14));
      }
    }
  }
}

/// The spatial mix's formula, token by token, around the operator, which has tests of its own.
TEST(SpatialMix6, MatchesItsFormulaWithSeveralHeads) {
  torch::manual_seed(2);
  const torch::NoGradGuard no_grad;
  const Grid grid{2, 3};
  for (const bool key_norm : {false, true}) {
    SpatialMix6 mix(SpatialMix6Options{128, key_norm});
    mix->to(torch::kDouble);
    for (auto& parameter : mix->parameters()) parameter.add_(torch::randn_like(parameter), 0.3);
    const auto p = mix->named_parameters();
    const at::Tensor feed = at::randn({2, 6, 128}, at::kDouble), shifted = head_shift_reference(feed, grid);
    at::Tensor r = at::zeros_like(feed), k = r.clone(), v = r.clone(), w = r.clone(), g = r.clone();
    for (int64_t b = 0; b < 2; ++b) {
      for (int64_t t = 0; t < 6; ++t) {
        const at::Tensor x = feed[b][t], difference = shifted[b][t] - x;
        const at::Tensor z = at::tanh((x + difference * p["time_maa_x"].flatten()).matmul(p["time_maa_w1"]));
        const auto mixed = [&](int64_t i, const char* name) {
          const at::Tensor share = z.slice(0, 32 * i, 32 * i + 32).matmul(p["time_maa_w2"][i]);
          return x + difference * (p[name].flatten() + share);
        };
        const at::Tensor asked = at::tanh(mixed(0, "time_maa_w").matmul(p["time_decay_w1"]));
        w[b][t].copy_(p["time_decay"].flatten() + asked.matmul(p["time_decay_w2"]));
        k[b][t].copy_(p["key.weight"].matmul(mixed(1, "time_maa_k")));
        v[b][t].copy_(p["value.weight"].matmul(mixed(2, "time_maa_v")));
        r[b][t].copy_(p["receptance.weight"].matmul(mixed(3, "time_maa_r")));
        const at::Tensor gate = p["gate.weight"].matmul(mixed(4, "time_maa_g"));
        g[b][t].copy_(gate * at::sigmoid(gate));
      }
    }
    at::Tensor y = ops::bi_wkv6(r, k, v, w, p["time_faaaa"]);
    if (key_norm) y = at::layer_norm(y, {128}, p["key_norm.weight"], p["key_norm.bias"], 1e-5);
    const at::Tensor heads = y.view({2, 6, 2, 64});
    const at::Tensor centred = heads - heads.mean(3, true);
    const at::Tensor standard = centred / (centred.square().mean(3, true) + 1e-5).sqrt();
    const at::Tensor normed = standard.view({2, 6, 128}) * p["ln_x.weight"] + p["ln_x.bias"];
    const at::Tensor expected = (normed * g).matmul(p["output.weight"].t());
    EXPECT_TRUE(close("y", expected, mix->forward(feed, {}, grid), 1e-12));
  }
}

TEST(Vrwkv6, StartsWithThePublishedValues) {
  torch::manual_seed(3);
  const Vrwkv model(small_options());
  const auto parameters = model->named_parameters();
  const double channels = 128;
  for (int64_t layer = 0; layer < 3; ++layer) {
    const double r01 = static_cast<double>(layer) / 2, r10 = 1 - static_cast<double>(layer) / 3;
    const std::string prefix = "layers." + std::to_string(layer);
    for (const int64_t h : {0, 1, 63, 64, 127}) {
      const auto at = [&](const char* name) { return parameters[prefix + name].flatten()[h].item<double>(); };
      const double x = static_cast<double>(h), ramp = std::pow(x / channels, r10);
      for (const char* name : {".att.time_maa_x", ".att.time_maa_w", ".att.time_maa_k"}) {
        EXPECT_NEAR(at(name), 1 - ramp, 1e-6);
      }
      EXPECT_NEAR(at(".att.time_maa_v"), 1 - (ramp + 0.3 * r01), 1e-6);
      for (const char* name : {".att.time_maa_r", ".att.time_maa_g"}) {
        EXPECT_NEAR(at(name), 1 - std::pow(x / channels, 0.5 * r10), 1e-6);
      }
      EXPECT_NEAR(at(".att.time_decay"), -6 + 5 * std::pow(x / (channels - 1), 0.7 + 1.3 * r01), 1e-6);
      EXPECT_NEAR(at(".att.time_faaaa"), r01 * (1 - x / (channels - 1)) + 0.1 * static_cast<double>((h + 1) % 3 - 1),
                  1e-6);
      EXPECT_NEAR(at(".ffn.spatial_mix_k"), ramp, 1e-6);
      EXPECT_NEAR(at(".ffn.spatial_mix_r"), ramp, 1e-6);
    }
    for (const char* name : {"time_maa_w1", "time_maa_w2", "time_decay_w1", "time_decay_w2"}) {
      const at::Tensor& weight = parameters[prefix + ".att." + name];
      EXPECT_LE(weight.abs().max().item<double>(), 1e-4);
      EXPECT_NEAR(weight.std().item<double>(), 1e-4 / std::sqrt(3.0), 2e-6);  // uniform
    }
    EXPECT_NEAR(parameters[prefix + ".att.gate.weight"].std().item<double>(), 0.02, 0.002);
  }
}

TEST(Vrwkv6, TakesOtherSizesPostNormAndKeyNorm) {
  torch::manual_seed(4);
  VrwkvOptions options = small_options();
  options.post_norm = true;
  options.key_norm = true;
  options.init_values = 1e-5;
  options.out_indices = {0, 2};
  Vrwkv model(options);
  const auto maps = model(torch::randn({2, 3, 24, 40}));
  ASSERT_EQ(maps.size(), 2U);
  for (const auto& map : maps) {
    EXPECT_EQ(map.sizes(), (at::IntArrayRef{2, 128, 3, 5}));
    EXPECT_TRUE(map.isfinite().all().item<bool>());
  }
  maps[1].square().sum().backward();
  for (const auto& parameter : model->named_parameters()) EXPECT_TRUE(parameter.value().grad().defined());
}

}  // namespace
}  // namespace vrwkv::testing

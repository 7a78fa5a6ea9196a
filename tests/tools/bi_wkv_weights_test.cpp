#include "tools/bi_wkv_weights.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <tuple>

#include "ops/bi_wkv.h"
#include "ops/bi_wkv_published.h"
#include "tests/support/assert_close.h"
#include "vrwkv/vrwkv.h"

namespace vrwkv::tools {
namespace {

using vrwkv::testing::close;

BiWkvInputs random_inputs(int64_t batch, int64_t tokens, int64_t channels) {
  const auto normal = [](at::IntArrayRef sizes) { return at::randn(sizes, at::kDouble); };
  return {.w = normal({channels}) / static_cast<double>(tokens),
          .u = normal({channels}),
          .k = 2 * normal({batch, tokens, channels}),
          .v = normal({batch, tokens, channels}),
          .r = {}};
}

at::Tensor op(const BiWkvInputs& in, WkvFormula formula) {
  return formula == WkvFormula::published ? ops::bi_wkv_published(in.w, in.u, in.k, in.v)
                                          : ops::bi_wkv(in.w, in.u, in.k, in.v);
}

TEST(BiWkvWeights, TimesTheValuesAreTheOutput) {
  at::manual_seed(1);
  for (const auto formula : {WkvFormula::automatic, WkvFormula::paper, WkvFormula::published}) {
    for (const auto& [batch, tokens, channels] : {std::tuple(1, 1, 4), std::tuple(2, 37, 5), std::tuple(3, 65, 7)}) {
      const BiWkvInputs inputs = random_inputs(batch, tokens, channels);
      const at::Tensor y = op(inputs, formula);
      for (const int64_t token : {0, tokens / 2, tokens - 1}) {
        const at::Tensor weights = bi_wkv_weights(inputs, token, formula);
        EXPECT_TRUE(close("weights v", y.select(1, token), (weights * inputs.v).sum(1), 1e-12));
        EXPECT_TRUE(close("their sum", at::ones({batch, channels}, at::kDouble), weights.sum(1), 1e-12));
      }
    }
  }
}

// Equation 3: e^{k_i - (|t-i|-1) w} and e^{u + k_t}, over their sum.
TEST(BiWkvWeights, AreThoseOfThePaper) {
  at::manual_seed(2);
  constexpr int64_t kTokens = 23, kToken = 9;
  const BiWkvInputs inputs = random_inputs(2, kTokens, 6);
  const at::Tensor distance = (at::arange(kTokens, at::kDouble) - static_cast<double>(kToken)).abs().view({-1, 1});
  at::Tensor exponents = inputs.k - (distance - 1) * inputs.w;
  exponents.select(1, kToken).copy_(inputs.k.select(1, kToken) + inputs.u);
  EXPECT_TRUE(close("weights", exponents.softmax(1), bi_wkv_weights(inputs, kToken, WkvFormula::paper), 1e-12));
}

TEST(BiWkvWeights, LeaveTheirInputsAlone) {
  const c10::AutoGradMode off(false);
  const BiWkvInputs inputs = random_inputs(1, 5, 4);
  EXPECT_FALSE(bi_wkv_weights(inputs, 2, WkvFormula::paper).requires_grad());
  EXPECT_FALSE(inputs.v.requires_grad());
  EXPECT_THROW(bi_wkv_weights(inputs, 5, WkvFormula::paper), c10::Error);
}

// What a layer hands to the operator, in whole networks: with ln0 and without, pre- and post-normalised.
TEST(BiWkvInputs, AreWhatTheLayersRead) {
  at::manual_seed(3);
  for (const bool post_norm : {false, true}) {
    VrwkvOptions options;
    options.img_size = 24;
    options.patch_size = 8;
    options.embed_dims = 12;
    options.depth = 2;
    options.post_norm = post_norm;
    Vrwkv backbone(options);
    backbone->to(at::kDouble);
    backbone->eval();
    for (const at::Tensor& parameter : backbone->parameters()) parameter.detach().add_(0.1 * at::randn_like(parameter));
    const at::Tensor images = at::randn({2, 3, 16, 24}, at::kDouble);

    // Block 0 and what block 1 reads, by the formulas.
    const Grid grid{2, 3};
    const auto norm = [](torch::nn::LayerNorm layer, const at::Tensor& x) { return layer->forward(x); };
    at::Tensor x = backbone->patch_embed(images) + resize_pos_embed(backbone->pos_embed, {3, 3}, grid);
    for (int64_t layer = 0; layer < 2; ++layer) {
      auto& block = *backbone->layers[static_cast<size_t>(layer)]->as<BlockImpl>();
      const at::Tensor entered = block.ln0 ? norm(block.ln0, x) : x;
      const at::Tensor read = post_norm ? entered : norm(block.ln1, entered);
      const at::Tensor map = read.transpose(1, 2).view({2, 12, 2, 3});
      const auto shift = [&](int64_t group, int64_t dim, int64_t by) {
        at::Tensor moved = at::zeros_like(map.narrow(1, 3 * group, 3));
        const int64_t size = moved.size(dim) - 1, to = by > 0 ? 1 : 0, from = by > 0 ? 0 : 1;
        moved.narrow(dim, to, size).copy_(map.narrow(1, 3 * group, 3).narrow(dim, from, size));
        return moved;
      };
      const at::Tensor shifted =
          at::cat({shift(0, 3, 1), shift(1, 3, -1), shift(2, 2, 1), shift(3, 2, -1)}, 1).flatten(2).transpose(1, 2);
      const auto mixed = [&](const at::Tensor& mix) { return read * mix + shifted * (1 - mix); };
      const BiWkvInputs inputs = backbone->bi_wkv_inputs(images, layer);
      EXPECT_TRUE(close("k", at::linear(mixed(block.att->spatial_mix_k), block.att->key->weight), inputs.k, 1e-12));
      EXPECT_TRUE(close("v", at::linear(mixed(block.att->spatial_mix_v), block.att->value->weight), inputs.v, 1e-12));
      EXPECT_TRUE(
          close("r", at::linear(mixed(block.att->spatial_mix_r), block.att->receptance->weight), inputs.r, 1e-12));
      EXPECT_TRUE(close("w", block.att->spatial_decay / 6, inputs.w, 1e-15));
      EXPECT_TRUE(close("u", block.att->spatial_first / 6, inputs.u, 1e-15));
      x = block.forward({x, {}}, grid, {}, ops::Feed::none).x;
    }
    EXPECT_THROW(backbone->bi_wkv_inputs(images, 2), c10::Error);
  }
  VrwkvOptions six;
  six.attention = Attention::bi_wkv6;
  six.depth = 1;
  EXPECT_THROW(Vrwkv(six)->bi_wkv_inputs(at::zeros({1, 3, 16, 16}), 0), c10::Error);
}

}  // namespace
}  // namespace vrwkv::tools

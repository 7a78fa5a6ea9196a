#include "vrwkv/vrwkv.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "common/errors.h"
#include "tests/support/assert_close.h"
#include "tests/support/golden.h"
#include "vrwkv/autocast.h"
#include "vrwkv/layers/drop_path.h"
#include "vrwkv/vrwkv_classifier.h"

namespace vrwkv::testing {
namespace {

VrwkvOptions small_options() {
  VrwkvOptions options;
  options.img_size = 32;
  options.patch_size = 8;
  options.embed_dims = 24;
  options.depth = 3;
  return options;
}

int64_t parameter_count(const torch::nn::Module& module) {
  int64_t count = 0;
  for (const auto& parameter : module.parameters()) count += parameter.numel();
  return count;
}

TEST(VrwkvVariants, HaveThePublishedNamesShapesAndCounts) {
  std::ifstream file(golden_path("state_keys.json"));
  const auto published = nlohmann::json::parse(file);
  struct Variant {
    const char *name, *key;
    int64_t parameters;
  };
  for (const auto& variant : {Variant{"tiny", "vrwkv_T", 6155176},
                              {"small", "vrwkv_S", 23820136},
                              {"base", "vrwkv_B", 93645544},
                              {"large", "vrwkv_L", 0},
                              {"vrwkv6_tiny", "vrwkv6_T", 7641256},
                              {"vrwkv6_small", "vrwkv6_S", 27677032},
                              {"vrwkv6_base", "vrwkv6_B", 104898280}}) {
    SCOPED_TRACE(variant.name);
    ClassifierOptions options = variant_options(variant.name);
    options.head = HeadKind::linear;  // The file lists L with a linear head.
    const VrwkvClassifier model(options);
    nlohmann::json shapes = nlohmann::json::object();
    for (const auto& parameter : model->named_parameters()) shapes[parameter.key()] = parameter.value().sizes().vec();
    for (const auto& buffer : model->named_buffers()) shapes[buffer.key()] = buffer.value().sizes().vec();
    EXPECT_EQ(shapes, published.at(variant.key));
    if (variant.parameters > 0) {
      EXPECT_EQ(parameter_count(*model), variant.parameters);
    }
  }
}

TEST(VrwkvVariants, LargeWithItsMlpHeadAt192HasThePublishedSize) {
  ClassifierOptions options = variant_options("large");
  options.backbone.img_size = 192;
  const VrwkvClassifier model(options);
  EXPECT_NEAR(static_cast<double>(parameter_count(*model)) / 1e6, 334.9, 0.05);
  EXPECT_EQ(model->named_parameters()["head.0.weight"].sizes(), (at::IntArrayRef{3072, 1024}));
  EXPECT_EQ(model->named_parameters()["head.2.weight"].sizes(), (at::IntArrayRef{1000, 3072}));
}

TEST(Vrwkv, PoolsTheMeanOfItsLastMap) {
  torch::manual_seed(2);
  const torch::NoGradGuard no_grad;
  for (const bool post_norm : {false, true}) {
    for (const bool with_cp : {false, true}) {
      VrwkvOptions options = small_options();
      options.post_norm = post_norm;
      options.with_cp = with_cp;
      Vrwkv model(options);
      model->to(torch::kDouble);
      for (auto& parameter : model->parameters()) parameter.add_(torch::randn_like(parameter), 0.1);
      const torch::Tensor images = torch::randn({2, 3, 24, 40}, torch::kDouble);
      const torch::Tensor map = model(images).back();
      EXPECT_TRUE(close("pooled", map.mean({2, 3}), model->pooled(images), 1e-13));
      // The map is a layer norm's result: without its weight and bias, tokens have mean 0 and variance 1.
      const torch::Tensor tokens = ((map.flatten(2).transpose(1, 2) - model->ln1->bias) / model->ln1->weight);
      EXPECT_TRUE(close("mean", torch::zeros({2, 15}, torch::kDouble), tokens.mean(2), 1e-10, 1e-10));
      EXPECT_TRUE(close("variance", torch::ones({2, 15}, torch::kDouble), tokens.square().mean(2), 1e-4));
    }
  }
}

TEST(Vrwkv, StartsWithThePublishedValues) {
  torch::manual_seed(1);
  const VrwkvOptions options = small_options();
  const Vrwkv model(options);
  const auto parameters = model->named_parameters();
  const double channels = 24;
  for (int64_t layer = 0; layer < 3; ++layer) {
    const double r01 = static_cast<double>(layer) / 2, r10 = 1 - static_cast<double>(layer) / 3;
    const std::string prefix = "layers." + std::to_string(layer);
    for (int64_t h : {0, 1, 11, 23}) {
      const auto at = [&](const char* name) { return parameters[prefix + name].flatten()[h].item<double>(); };
      const double x = static_cast<double>(h);
      EXPECT_NEAR(at(".att.spatial_decay"), -5 + 8 * std::pow(x / (channels - 1), 0.7 + 1.3 * r01), 1e-6);
      EXPECT_NEAR(at(".att.spatial_first"), std::log(0.3) + 0.5 * static_cast<double>((h + 1) % 3 - 1), 1e-6);
      EXPECT_NEAR(at(".att.spatial_mix_k"), std::pow(x / channels, r10), 1e-6);
      EXPECT_NEAR(at(".att.spatial_mix_v"), std::pow(x / channels, r10) + 0.3 * r01, 1e-6);
      EXPECT_NEAR(at(".att.spatial_mix_r"), std::pow(x / channels, 0.5 * r10), 1e-6);
      EXPECT_NEAR(at(".ffn.spatial_mix_k"), std::pow(x / channels, r10), 1e-6);
      EXPECT_NEAR(at(".ffn.spatial_mix_r"), std::pow(x / channels, r10), 1e-6);
    }
    EXPECT_NEAR(parameters[prefix + ".ffn.key.weight"].std().item<double>(), 0.02, 0.002);
  }
  EXPECT_EQ(model->pos_embed.abs().max().item<float>(), 0.0F);
}

TEST(Vrwkv, OffersTheOtherPublishedStarts) {
  VrwkvOptions options = small_options();
  options.init_mode = InitMode::local;
  EXPECT_TRUE(Vrwkv(options)->named_parameters()["layers.1.att.spatial_mix_v"].eq(1).all().item<bool>());
  options.init_mode = InitMode::global;
  EXPECT_TRUE(Vrwkv(options)->named_parameters()["layers.1.att.spatial_mix_v"].eq(0.5).all().item<bool>());
  EXPECT_TRUE(Vrwkv(options)->named_parameters()["layers.1.att.spatial_decay"].eq(0).all().item<bool>());
  options.linear_init = LinearInit::zero_orthogonal;
  const auto parameters = Vrwkv(options)->named_parameters();
  EXPECT_EQ(parameters["layers.2.att.output.weight"].abs().max().item<float>(), 0.0F);
  const at::Tensor value = parameters["layers.2.att.value.weight"].detach();
  EXPECT_TRUE(close("orthogonal", at::eye(24), value.mm(value.t()), 1e-5));
}

TEST(Vrwkv, ReturnsFeatureMapsOfChosenLayersAtAnySize) {
  VrwkvOptions options = small_options();
  options.out_indices = {0, 2};
  Vrwkv model(options);
  model->eval();
  const auto maps = model(torch::randn({2, 3, 24, 40}));
  ASSERT_EQ(maps.size(), 2U);
  for (const auto& map : maps) EXPECT_EQ(map.sizes(), (at::IntArrayRef{2, 24, 3, 5}));
  // The last map is normalised over the channels, the first is not.
  EXPECT_LT(maps[1].mean(1).abs().max().item<float>(), 1e-5F);
  EXPECT_GT(maps[0].mean(1).abs().max().item<float>(), 1e-5F);
}

/// Keys' cubic kernel with a = -0.75, which the published code's bicubic resize uses.
double cubic(double x) {
  x = std::abs(x);
  const double a = -0.75;
  if (x <= 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  return x < 2 ? ((x - 5) * x + 8) * x * a - 4 * a : 0;
}

TEST(Vrwkv, ResizesThePositionEmbeddingAsPublished) {
  torch::manual_seed(2);
  const at::Tensor embedding = at::randn({1, 8 * 8, 3}, at::kDouble);
  const at::Tensor resized = resize_pos_embed(embedding, {8, 8}, {5, 16}).view({5, 16, 3});
  const at::Tensor grid = embedding.view({8, 8, 3});
  for (int64_t i = 0; i < 5; ++i) {
    for (int64_t j = 0; j < 16; ++j) {
      const double y = (static_cast<double>(i) + 0.5) * 8 / 5 - 0.5, x = (static_cast<double>(j) + 0.5) * 8 / 16 - 0.5;
      at::Tensor expected = at::zeros({3}, at::kDouble);
      for (auto row = static_cast<int64_t>(std::floor(y)) - 1; row <= std::floor(y) + 2; ++row) {
        for (auto column = static_cast<int64_t>(std::floor(x)) - 1; column <= std::floor(x) + 2; ++column) {
          const double weight = cubic(y - static_cast<double>(row)) * cubic(x - static_cast<double>(column));
          expected += weight * grid[std::clamp<int64_t>(row, 0, 7)][std::clamp<int64_t>(column, 0, 7)];
        }
      }
      EXPECT_TRUE(close("resized", expected, resized[i][j], 1e-5));
    }
  }
  EXPECT_TRUE(at::equal(resize_pos_embed(embedding, {8, 8}, {8, 8}), embedding));
  EXPECT_THROW(resize_pos_embed(embedding, {7, 8}, {8, 8}), c10::Error);
}

TEST(Vrwkv, NamesTheSizesThatDoNotFit) {
  Vrwkv model(small_options());
  try {
    model(torch::zeros({1, 3, 32, 36}));
    FAIL() << "accepted 36 pixels with patches of 8";
  } catch (const c10::Error& error) {
    EXPECT_NE(std::string(error.what_without_backtrace()).find("multiples of the patch size 8, got 32 x 36"),
              std::string::npos)
        << error.what_without_backtrace();
  }
  EXPECT_THROW(model(torch::zeros({1, 1, 32, 32})), c10::Error);
  VrwkvOptions options = small_options();
  options.img_size = 33;
  EXPECT_THROW(Vrwkv{options}, UsageError);
}

TEST(Vrwkv, NumbersItsParametersByLayer) {
  const Vrwkv model(small_options());
  EXPECT_EQ(model->layer_id("pos_embed"), 0);
  EXPECT_EQ(model->layer_id("patch_embed.projection.bias"), 0);
  EXPECT_EQ(model->layer_id("layers.0.ln0.weight"), 1);
  EXPECT_EQ(model->layer_id("layers.2.ffn.key.weight"), 3);
  EXPECT_EQ(model->layer_id("ln1.weight"), 4);
}

TEST(DropPath, DropsSamplesAtItsRateAndKeepsTheMean) {
  torch::manual_seed(3);
  const at::Tensor mask = draw_drop_path_mask(20000, 0.3, at::kFloat);
  EXPECT_EQ(mask.sizes(), (at::IntArrayRef{20000, 1, 1}));
  EXPECT_NEAR(mask.eq(0).to(at::kFloat).mean().item<double>(), 0.3, 0.015);
  EXPECT_NEAR(mask.mean().item<double>(), 1.0, 0.02);
  EXPECT_FALSE(draw_drop_path_mask(4, 0.0, at::kFloat).defined());
}

TEST(DropPath, RisesLinearlyOverTheBlocksAndOnlyInTraining) {
  VrwkvOptions options = small_options();
  options.drop_path_rate = 0.5;
  Vrwkv model(options);
  EXPECT_DOUBLE_EQ(model->layers[0]->as<BlockImpl>()->drop_path_rate(), 0.0);
  EXPECT_DOUBLE_EQ(model->layers[1]->as<BlockImpl>()->drop_path_rate(), 0.25);
  EXPECT_DOUBLE_EQ(model->layers[2]->as<BlockImpl>()->drop_path_rate(), 0.5);
  const at::Tensor images = torch::randn({4, 3, 32, 32});
  model->eval();
  EXPECT_TRUE(at::equal(model(images)[0], model(images)[0]));
  model->train();
  EXPECT_FALSE(at::equal(model(images)[0], model(images)[0]));
}

TEST(Checkpointing, GivesTheSameGradientsWithDropPathAndAutocast) {
  const at::Tensor images = torch::randn({3, 3, 32, 32});
  const auto gradients = [&](bool with_cp) {
    VrwkvOptions options = small_options();
    options.drop_path_rate = 0.5;
    options.with_cp = with_cp;
    torch::manual_seed(5);
    Vrwkv model(options);
    torch::manual_seed(6);
    at::Tensor loss;
    {
      const AutocastGuard autocast(at::kCPU, at::kBFloat16);
      loss = model(images)[0].to(at::kFloat).square().mean();
    }
    loss.backward();
    std::vector<at::Tensor> all;
    for (const auto& parameter : model->parameters()) all.push_back(parameter.grad());
    return all;
  };
  const auto plain = gradients(false), recomputed = gradients(true);
  for (size_t i = 0; i < plain.size(); ++i) EXPECT_TRUE(close(std::to_string(i), plain[i], recomputed[i], 1e-6));
}

}  // namespace
}  // namespace vrwkv::testing

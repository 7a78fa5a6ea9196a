#include "tools/module_costs.h"

#include <gtest/gtest.h>
#include <torch/nn/modules/linear.h>

#include <cmath>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>
#include <string>

#include "tests/support/golden.h"
#include "tools/paper_row.h"

namespace vrwkv::tools {
namespace {

ModuleCosts costs_of(ClassifierOptions options, int64_t size) {
  options.backbone.linear_init = LinearInit::trunc_normal;  // Of no matter here, and quick.
  const int64_t side = size / options.backbone.patch_size;
  return model_costs(VrwkvClassifier(options), {side, side});
}

const ModuleCosts& part(const ModuleCosts& module, const std::string& name) {
  for (const ModuleCosts& inner : module.parts) {
    if (inner.name == name) return inner;
  }
  throw std::logic_error(module.name + " has no part " + name);
}

double to_one_decimal(double value) { return std::round(value * 10) / 10; }

// The counts of the published code.
TEST(ModuleCosts, ParametersOfTheVariants) {
  const std::map<std::string, int64_t> published{{"tiny", 6155176},          {"small", 23820136},
                                                 {"base", 93645544},         {"vrwkv6_tiny", 7641256},
                                                 {"vrwkv6_small", 27677032}, {"vrwkv6_base", 104898280}};
  for (const auto& [name, parameters] : published) {
    EXPECT_EQ(costs_of(variant_options(name), 224).parameters, parameters) << name;
  }
}

// Table 2 of the paper, to its rounding.
TEST(ModuleCosts, FlopsAndParametersOfThePaper) {
  for (const char* name : {"tiny", "small", "base", "large"}) {
    ClassifierOptions options = variant_options(name);
    const std::optional<PaperRow> row = paper_row(options);
    ASSERT_TRUE(row);
    EXPECT_EQ(row->variant, name);
    EXPECT_DOUBLE_EQ(to_one_decimal(static_cast<double>(costs_of(options, row->size).flops) / 1e9), row->flops) << name;
    options.backbone.img_size = row->pos_embed_size;
    // The paper gives 93.7 for 93,645,544.
    const double parameters = static_cast<double>(costs_of(options, row->pos_embed_size).parameters) / 1e6;
    EXPECT_NEAR(parameters, row->parameters, 0.06) << name;
  }
}

// The encoder's cost is proportional to the share of patches that it sees; the decoder's does not change.
TEST(ModuleCosts, AnEncoderCostsWhatItsVisibleTokensCost) {
  MaskedAutoencoderOptions options{variant_options("tiny").backbone, {}};
  const int64_t whole = part(costs_of(variant_options("tiny"), 224), "backbone").flops;
  std::optional<int64_t> decoder;
  for (const auto& [mask_ratio, visible] : {std::pair{0.25, 147}, {0.5, 98}, {0.75, 49}}) {
    options.mae.mask_ratio = mask_ratio;
    const ModuleCosts costs = model_costs(MaskedAutoencoder(options), {14, 14});
    const int64_t encoder = part(costs, "patch_embed").flops + part(costs, "blocks").flops + part(costs, "ln1").flops;
    EXPECT_EQ(encoder * 196, whole * visible) << mask_ratio;
    const int64_t rest = costs.flops - encoder - part(costs, "decoder_embed").flops;
    EXPECT_EQ(decoder.value_or(rest), rest);
    decoder = rest;
    int64_t numbers = 0;
    for (const at::Tensor& parameter : MaskedAutoencoder(options)->parameters()) numbers += parameter.numel();
    EXPECT_EQ(costs.parameters, numbers);
  }
}

TEST(ModuleCosts, OtherNetworksHaveNoRow) {
  ClassifierOptions options = variant_options("small");
  options.num_classes = 7;
  options.backbone.img_size = 64;
  options.backbone.drop_path_rate = 0.3;
  options.backbone.init_values = 1e-3;
  ASSERT_TRUE(paper_row(options));
  EXPECT_EQ(paper_row(options)->variant, "small");
  options.backbone.post_norm = false;
  EXPECT_FALSE(paper_row(options));
  EXPECT_FALSE(paper_row(variant_options("vrwkv6_small")));
  ClassifierOptions other_head = variant_options("tiny");
  other_head.head = HeadKind::mlp_tanh;
  EXPECT_FALSE(paper_row(other_head));
}

// Written out for an awkward network: C 20, hidden 60, 2 channels of image, patches of 5, 3 x 4 tokens, 7 classes.
TEST(ModuleCosts, AreTheSumsOfTheFormulas) {
  ClassifierOptions options;
  options.num_classes = 7;
  options.head = HeadKind::mlp_tanh;
  VrwkvOptions& backbone = options.backbone;
  backbone.img_size = 10;
  backbone.patch_size = 5;
  backbone.in_channels = 2;
  backbone.embed_dims = 20;
  backbone.depth = 3;
  backbone.hidden_rate = 3;
  backbone.key_norm = true;
  const ModuleCosts costs = model_costs(VrwkvClassifier(options), {3, 4});
  constexpr int64_t T = 12, C = 20, H = 60, K = 2 * 5 * 5, L = 3, N = 7;
  const int64_t matrices = 4 * C * C + 2 * C * H + C * C;
  EXPECT_EQ(part(costs, "head").flops, C * 3 * C + 3 * C * N);
  EXPECT_EQ(part(costs, "head").parameters, C * 3 * C + 3 * C + 3 * C * N + N);
  const ModuleCosts& body = part(costs, "backbone");
  EXPECT_EQ(body.flops, T * (K * C + 5 * C + 5 * C + L * (matrices + 7 * C + 5 * (2 * C + C + H))));
  // pos_embed of 2 x 2 patches; decay, first and 5 mixes; ln0 and the last ln1; key_norms.
  EXPECT_EQ(body.parameters, 4 * C + K * C + C + 4 * C + L * (matrices + 7 * C + 4 * C + 2 * C + 2 * H));
  EXPECT_EQ(costs.flops, body.flops + part(costs, "head").flops);
  const ModuleCosts& mix = part(part(part(body, "layers"), "1"), "att");
  EXPECT_EQ(mix.kind, "SpatialMix");
  EXPECT_EQ(mix.flops, T * (4 * C * C + 7 * C + 5 * C));
  EXPECT_EQ(part(mix, "key").kind, "Linear");
  EXPECT_EQ(part(mix, "key").flops, T * C * C);
}

// r, k, v, g, o; low ranks 5 x 32 and 64; heads of 64: (d S, k v, r S) in both directions, and u.
TEST(ModuleCosts, OfTheAttentionOfVrwkv6) {
  ClassifierOptions options = variant_options("vrwkv6_tiny");
  const ModuleCosts costs = costs_of(options, 64);
  constexpr int64_t T = 16, C = 192;
  const ModuleCosts& mix = part(part(part(part(costs, "backbone"), "layers"), "2"), "att");
  EXPECT_EQ(mix.flops, T * C * (5 * C + 2 * 5 * 32 + 2 * 64 + 2 * 3 * 64 + 3 + 5));
}

// Names and shapes that the public code's modules have.
TEST(ModuleCosts, OfLargeWithALinearHead) {
  std::ifstream file(testing::golden_path("state_keys.json"));
  const nlohmann::json keys = nlohmann::json::parse(file).at("vrwkv_L");
  int64_t expected = 0;
  for (const auto& shape : keys) {
    int64_t numbers = 1;
    for (const auto& size : shape) numbers *= size.get<int64_t>();
    expected += numbers;
  }
  ClassifierOptions options = variant_options("large");
  options.head = HeadKind::linear;
  EXPECT_EQ(costs_of(options, 384).parameters, expected);
}

TEST(ModuleCosts, RefuseLayersWithoutARule) {
  ClassifierOptions options;
  options.backbone.depth = 1;
  VrwkvClassifier model(options);
  model->head->push_back("unknown", torch::nn::AnyModule(torch::nn::Bilinear(2, 2, 2)));
  EXPECT_THROW(model_costs(model, {2, 2}), std::logic_error);
}

}  // namespace
}  // namespace vrwkv::tools

#include "train/param_groups.h"

#include <gtest/gtest.h>
#include <torch/nn/modules/linear.h>

#include <cmath>
#include <map>
#include <set>

#include "common/errors.h"
#include "vrwkv/vrwkv_classifier.h"

namespace vrwkv::testing {
namespace {

struct Settings {
  double decay, scale;
};

std::map<std::string, Settings> settings_of(const torch::nn::Module& model, const config::OptimizerOptions& options) {
  std::map<std::string, Settings> all;
  for (const auto& group : train::make_param_groups(model, options)) {
    for (const auto& parameter : group.parameters) {
      EXPECT_TRUE(all.emplace(parameter.name, Settings{group.weight_decay, group.lr_scale}).second) << parameter.name;
    }
  }
  return all;
}

/// vrwkv_tiny by hand: 12 blocks, so ids 0 to 13, and 13 - id factors of 0.5.
std::map<std::string, Settings> expected_of_tiny() {
  constexpr double kDecay = 0.05;
  std::map<std::string, Settings> all{{"backbone.pos_embed", {kDecay, std::ldexp(1.0, -13)}},
                                      {"backbone.patch_embed.projection.weight", {kDecay, std::ldexp(1.0, -13)}},
                                      {"backbone.patch_embed.projection.bias", {0, std::ldexp(1.0, -13)}},
                                      {"backbone.ln1.weight", {0, 1}},
                                      {"backbone.ln1.bias", {0, 1}},
                                      {"head.fc.weight", {kDecay, 1}},
                                      {"head.fc.bias", {0, 1}}};
  for (int block = 0; block < 12; ++block) {
    const std::string prefix = "backbone.layers." + std::to_string(block) + ".";
    const double scale = std::ldexp(1.0, -(12 - block));
    for (const char* name :
         {"att.spatial_decay", "att.spatial_first", "att.spatial_mix_k", "att.spatial_mix_v", "att.spatial_mix_r",
          "att.key.weight", "att.value.weight", "att.receptance.weight", "att.output.weight", "ffn.spatial_mix_k",
          "ffn.spatial_mix_r", "ffn.key.weight", "ffn.value.weight", "ffn.receptance.weight"}) {
      all[prefix + name] = {kDecay, scale};
    }
    for (const char* name : {"ln1.weight", "ln1.bias", "ln2.weight", "ln2.bias"}) all[prefix + name] = {0, scale};
    if (block == 0) all[prefix + "ln0.weight"] = all[prefix + "ln0.bias"] = {0, scale};
  }
  return all;
}

TEST(ParamGroups, LayerWiseRatesAndDecayOfTinyAsWorkedOutByHand) {
  config::OptimizerOptions options;
  options.layer_decay = 0.5;  // Its powers are exact.
  options.decay_rule = config::DecayRule::layer_wise;
  const auto found = settings_of(*VrwkvClassifier(variant_options("tiny")), options);
  const auto expected = expected_of_tiny();
  EXPECT_EQ(found.size(), expected.size());
  for (const auto& [name, settings] : expected) {
    ASSERT_TRUE(found.contains(name)) << name;
    EXPECT_EQ(found.at(name).decay, settings.decay) << name;
    EXPECT_EQ(found.at(name).scale, settings.scale) << name;
  }
}

ClassifierOptions small_options() {
  ClassifierOptions options;
  options.backbone.img_size = 16;
  options.backbone.patch_size = 8;
  options.backbone.embed_dims = 8;
  options.backbone.depth = 3;
  options.backbone.init_values = 0.1;
  options.num_classes = 4;
  return options;
}

TEST(ParamGroups, TheRulesDifferInTheLayerScale) {
  const VrwkvClassifier model(small_options());
  config::OptimizerOptions options;
  const std::string gamma = "backbone.layers.1.gamma1", decay = "backbone.layers.1.att.spatial_decay";
  EXPECT_EQ(settings_of(*model, options).at(gamma).decay, 0.05);
  options.decay_rule = config::DecayRule::layer_wise;
  EXPECT_EQ(settings_of(*model, options).at(gamma).decay, 0.0);
  EXPECT_EQ(settings_of(*model, options).at(decay).decay, 0.05);
  // Without layer decay there are two groups, both with the whole rate.
  const auto groups = train::make_param_groups(*model, options);
  ASSERT_EQ(groups.size(), 2U);
  EXPECT_EQ(groups[0].lr_scale, 1.0);
  EXPECT_EQ(groups[1].lr_scale, 1.0);
}

TEST(ParamGroups, TheGroupNormOfVrwkv6IsANorm) {
  ClassifierOptions six = small_options();
  six.backbone.embed_dims = 64;
  six.backbone.attention = Attention::bi_wkv6;
  const auto found = settings_of(*VrwkvClassifier(six), {});
  const std::string att = "backbone.layers.1.att.";
  for (const char* name : {"ln_x.weight", "ln_x.bias"}) EXPECT_EQ(found.at(att + name).decay, 0.0) << name;
  for (const char* name : {"time_faaaa", "time_decay", "time_maa_w2"}) EXPECT_EQ(found.at(att + name).decay, 0.05);
}

TEST(ParamGroups, ABareBackboneHasTheSameIdsAndOtherModelsHaveNone) {
  config::OptimizerOptions options;
  options.layer_decay = 0.9;
  const auto found = settings_of(*Vrwkv(small_options().backbone), options);
  EXPECT_DOUBLE_EQ(found.at("pos_embed").scale, std::pow(0.9, 4));
  EXPECT_DOUBLE_EQ(found.at("layers.2.ln1.bias").scale, 0.9);
  EXPECT_EQ(found.at("ln1.bias").scale, 1.0);
  EXPECT_THROW(train::make_param_groups(*torch::nn::Linear(2, 2), options), UsageError);
}

}  // namespace
}  // namespace vrwkv::testing

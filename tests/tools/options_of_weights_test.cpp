#include "tools/options_of_weights.h"

#include <ATen/Functions.h>
#include <gtest/gtest.h>

#include "vrwkv/checkpoint/state_dict.h"
#include "vrwkv/vrwkv_classifier.h"

namespace vrwkv::tools {
namespace {

ClassifierOptions odd_options() {
  ClassifierOptions options;
  options.num_classes = 11;
  options.backbone.img_size = 30;
  options.backbone.patch_size = 10;
  options.backbone.in_channels = 2;
  options.backbone.embed_dims = 64;
  options.backbone.depth = 3;
  options.backbone.hidden_rate = 2;
  return options;
}

ModelWeights weights_of(const ClassifierOptions& options) { return {state_dict(*VrwkvClassifier(options)), {}, {}}; }

std::string error_of(const ModelWeights& weights) {
  try {
    options_of_weights(weights, "x.pth");
    return "no error";
  } catch (const std::runtime_error& error) {
    return error.what();
  }
}

TEST(OptionsOfWeights, AreThoseOfTheNetwork) {
  ClassifierOptions plain = odd_options();
  EXPECT_EQ(options_of_weights(weights_of(plain), "x"), plain);
  ClassifierOptions rich = plain;
  rich.head = HeadKind::mlp_tanh;
  rich.backbone.init_values = 1.0;
  rich.backbone.post_norm = true;
  rich.backbone.key_norm = true;
  EXPECT_EQ(options_of_weights(weights_of(rich), "x"), rich);
  ClassifierOptions six = plain;
  six.backbone.attention = Attention::bi_wkv6;
  EXPECT_EQ(options_of_weights(weights_of(six), "x"), six);
}

TEST(OptionsOfWeights, TheConfigurationInTheFileSaysWhereItNormalises) {
  ClassifierOptions options = odd_options();
  options.backbone.init_values = 1.0;
  ModelWeights weights = weights_of(options);
  weights.metadata[kConfigKey] = "model:\n  post_norm: false\n";
  EXPECT_FALSE(options_of_weights(weights, "x").backbone.post_norm);
  weights.metadata[kConfigKey] = "model:\n  post_norm: true\n";
  EXPECT_TRUE(options_of_weights(weights, "x").backbone.post_norm);
}

TEST(OptionsOfWeights, NamesWhatIsMissingOrWrong) {
  ModelWeights weights = weights_of(odd_options());
  ModelWeights headless = weights;
  headless.tensors.erase("head.fc.weight");
  EXPECT_EQ(error_of(headless).find("x.pth holds no VRWKV classifier: expected a tensor 'head.fc.weight' among its"),
            0);
  ModelWeights flat = weights;
  flat.tensors["backbone.pos_embed"] = at::zeros({9, 64});
  EXPECT_EQ(error_of(flat), "x.pth: backbone.pos_embed must have 3 dimensions, got 2");
  ModelWeights narrow = weights;
  narrow.tensors["backbone.patch_embed.projection.weight"] = at::zeros({2, 2, 10, 10});
  EXPECT_EQ(error_of(narrow), "x.pth: its tensors are of no network, as embed_dims must be >= 4, got 2");
}

}  // namespace
}  // namespace vrwkv::tools

#include "vrwkv/checkpoint/transfer.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <functional>

#include "vrwkv/checkpoint/state_dict.h"
#include "vrwkv/vrwkv.h"
#include "vrwkv/vrwkv_classifier.h"

namespace vrwkv::testing {
namespace {

using Tensors = std::map<std::string, torch::Tensor>;
using Names = std::vector<std::string>;

VrwkvClassifier classifier(int64_t img_size, int64_t classes, HeadKind head) {
  ClassifierOptions options;
  options.backbone.img_size = img_size;
  options.backbone.patch_size = 8;
  options.backbone.embed_dims = 8;
  options.backbone.depth = 2;
  options.num_classes = classes;
  options.head = head;
  return VrwkvClassifier(options);
}

Tensors copy_of(const torch::nn::Module& module) {
  Tensors tensors = state_dict(module);
  for (auto& [name, tensor] : tensors) tensor = tensor.clone();
  return tensors;
}

Tensors random_weights(const torch::nn::Module& module) {
  Tensors tensors = state_dict(module);
  for (auto& [name, tensor] : tensors) tensor = at::randn_like(tensor);
  return tensors;
}

std::string message_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const std::runtime_error& error) {
    return error.what();
  }
  return "";
}

TEST(Transfer, TakesEverythingOfTheSameModel) {
  auto model = classifier(32, 5, HeadKind::linear);
  const Tensors weights = random_weights(*model);
  const TransferReport report = transfer_weights(*model, weights);
  EXPECT_EQ(report.loaded.size(), weights.size());
  for (const auto& [name, value] : state_dict(*model)) EXPECT_TRUE(at::equal(value, weights.at(name))) << name;
  EXPECT_EQ(describe(report).size(), 1U);
}

TEST(Transfer, SwapsTheHeadAndResizesThePositionEmbedding) {
  const Tensors weights = random_weights(*classifier(32, 5, HeadKind::linear));
  auto model = classifier(48, 7, HeadKind::linear);
  const Tensors before = copy_of(*model);
  const TransferReport report = transfer_weights(*model, weights);
  EXPECT_EQ(report.resized, Names{"backbone.pos_embed"});
  EXPECT_EQ(report.new_head, (Names{"head.fc.bias", "head.fc.weight"}));
  EXPECT_EQ(report.skipped, (Names{"head.fc.bias", "head.fc.weight"}));
  EXPECT_TRUE(report.missing.empty() && report.unexpected.empty());
  EXPECT_EQ(report.loaded.size(), weights.size() - 3);
  const Tensors after = state_dict(*model);
  // The function that other input sizes use; its values are tested against the written-out interpolation.
  const at::Tensor resized = resize_pos_embed(weights.at("backbone.pos_embed"), {4, 4}, {6, 6});
  EXPECT_TRUE(at::equal(after.at("backbone.pos_embed"), resized));
  for (const auto& name : report.loaded) EXPECT_TRUE(at::equal(after.at(name), weights.at(name))) << name;
  for (const auto& name : report.new_head) EXPECT_TRUE(at::equal(after.at(name), before.at(name))) << name;
}

TEST(Transfer, KeepsTheHiddenLayerOfAHeadForOtherClasses) {
  const Tensors weights = random_weights(*classifier(32, 5, HeadKind::mlp_tanh));
  auto model = classifier(32, 7, HeadKind::mlp_tanh);
  const TransferReport report = transfer_weights(*model, weights);
  EXPECT_EQ(report.new_head, (Names{"head.2.bias", "head.2.weight"}));
  EXPECT_TRUE(at::equal(state_dict(*model).at("head.0.weight"), weights.at("head.0.weight")));
}

TEST(Transfer, StartsAHeadOfAnotherKindAnew) {
  const Tensors weights = random_weights(*classifier(32, 5, HeadKind::mlp_tanh));
  const TransferReport report = transfer_weights(*classifier(32, 5, HeadKind::linear), weights);
  EXPECT_EQ(report.new_head, (Names{"head.fc.bias", "head.fc.weight"}));
  EXPECT_EQ(report.skipped, (Names{"head.0.bias", "head.0.weight", "head.2.bias", "head.2.weight"}));
}

TEST(Transfer, ReportsWhatOneSideLacks) {
  auto model = classifier(32, 5, HeadKind::linear);
  Tensors weights = random_weights(*model);
  weights.erase("backbone.ln1.bias");
  weights.erase("head.fc.bias");  // A layer of the head is taken whole or not at all.
  weights["backbone.mask_token"] = at::ones({1});
  const TransferReport report = transfer_weights(*model, weights);
  EXPECT_EQ(report.missing, Names{"backbone.ln1.bias"});
  EXPECT_EQ(report.unexpected, Names{"backbone.mask_token"});
  EXPECT_EQ(report.new_head, (Names{"head.fc.bias", "head.fc.weight"}));
  EXPECT_EQ(report.skipped, Names{"head.fc.weight"});
  const Names lines = describe(report, 2);
  ASSERT_EQ(lines.size(), 5U);
  EXPECT_EQ(lines[0].substr(0, 8), "loaded (");
  EXPECT_TRUE(lines[0].ends_with(", …")) << lines[0];
  EXPECT_EQ(lines[1], "head initialised anew (2): head.fc.bias, head.fc.weight");
  EXPECT_EQ(lines[4], "unexpected in the file, not used (1): backbone.mask_token");
}

TEST(Transfer, RefusesOtherShapesAndOtherModelsAndChangesNothing) {
  auto model = classifier(32, 5, HeadKind::linear);
  const Tensors before = copy_of(*model);
  Tensors weights = random_weights(*model);
  weights["backbone.ln1.weight"] = at::ones({9});
  weights["backbone.pos_embed"] = at::ones({1, 15, 8});  // No square grid.
  const std::string shapes = message_of([&] { transfer_weights(*model, weights); });
  for (const char* line : {"\n  backbone.ln1.weight: the model has shape [8], the file [9]",
                           "\n  backbone.pos_embed: the model has shape [1, 16, 8], the file [1, 15, 8]"}) {
    EXPECT_NE(shapes.find(line), std::string::npos) << shapes;
  }
  const std::string names = message_of([&] { transfer_weights(*model, {{"encoder.weight", at::ones({2})}}); });
  EXPECT_NE(names.find("such as encoder.weight"), std::string::npos) << names;
  EXPECT_NE(message_of([&] { transfer_weights(*model, {}); }).find("none at all"), std::string::npos);
  for (const auto& [name, value] : state_dict(*model)) EXPECT_TRUE(at::equal(value, before.at(name))) << name;
}

}  // namespace
}  // namespace vrwkv::testing

#include "train/freeze.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <functional>
#include <set>

#include "common/errors.h"
#include "train/adamw.h"
#include "train/param_groups.h"
#include "train/train_step.h"
#include "vrwkv/checkpoint/state_dict.h"
#include "vrwkv/vrwkv_classifier.h"

namespace vrwkv::testing {
namespace {

VrwkvClassifier small_classifier(bool with_cp = false) {
  ClassifierOptions options;
  options.backbone.img_size = 16;
  options.backbone.patch_size = 8;
  options.backbone.embed_dims = 8;
  options.backbone.depth = 3;
  options.backbone.init_values = 0.1;
  options.backbone.post_norm = true;
  options.backbone.with_cp = with_cp;
  options.num_classes = 4;
  return VrwkvClassifier(options);
}

std::string error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const UsageError& error) {
    return error.what();
  }
  return "no error";
}

TEST(Freeze, FrozenParametersStayAndTheOthersMoveAsTheyWould) {
  for (const bool with_cp : {false, true}) {
    torch::manual_seed(3);
    VrwkvClassifier whole = small_classifier(with_cp), part = small_classifier(with_cp);
    load_state_dict(*part, state_dict(*whole));
    const std::vector<std::string> frozen = train::freeze_parameters(
        *part, {"backbone.pos_embed", "backbone.patch_embed.*", "backbone.layers.[01].*", "*.ffn.key.weight"});
    const std::set<std::string> names(frozen.begin(), frozen.end());
    EXPECT_TRUE(names.contains("backbone.layers.1.att.spatial_decay"));
    EXPECT_TRUE(names.contains("backbone.layers.2.ffn.key.weight"));
    EXPECT_FALSE(names.contains("backbone.layers.2.ffn.value.weight"));

    config::OptimizerOptions options;
    options.weight_decay = 0.5;  // It would move a frozen parameter by itself.
    const at::Tensor images = at::randn({2, 3, 16, 16});
    const auto step = [&](VrwkvClassifier model) {
      train::AdamW optimizer(train::make_param_groups(*model, options), options);
      model->train();
      train::train_step([&](int64_t) { return model(images).square().mean(); }, 1, optimizer, 0);
      return optimizer.state();
    };
    const auto before = state_dict(*part);
    std::map<std::string, at::Tensor> copies;
    for (const auto& [name, value] : before) copies[name] = value.clone();
    step(whole);
    const auto state = step(part);
    const auto moved = state_dict(*whole);
    for (const auto& [name, value] : state_dict(*part)) {
      EXPECT_TRUE(at::equal(value, names.contains(name) ? copies.at(name) : moved.at(name))) << name;
      EXPECT_EQ(state.contains("exp_avg." + name), !names.contains(name)) << name;
    }
    for (const auto& parameter : part->named_parameters()) {
      EXPECT_EQ(parameter.value().grad().defined(), !names.contains(parameter.key())) << parameter.key();
    }
  }
}

TEST(Freeze, APatternMustMatchAndSomethingMustBeLeft) {
  VrwkvClassifier model = small_classifier();
  EXPECT_TRUE(train::freeze_parameters(*model, {}).empty());
  const std::string near = error_of([&] { train::freeze_parameters(*model, {"head.*", "backbone.layer.0.*"}); });
  EXPECT_NE(near.find("matches 'backbone.layer.0.*'; did you mean 'backbone.layers.0.*'?"), std::string::npos) << near;
  const std::string far = error_of([&] { train::freeze_parameters(*model, {"xyz"}); });
  EXPECT_NE(far.find("names are such as backbone.pos_embed"), std::string::npos) << far;
  EXPECT_NE(error_of([&] { train::freeze_parameters(*model, {"head.*", "backbone.*"}); }).find("matches all"),
            std::string::npos);
  for (const auto& parameter : model->parameters()) EXPECT_TRUE(parameter.requires_grad());
}

}  // namespace
}  // namespace vrwkv::testing

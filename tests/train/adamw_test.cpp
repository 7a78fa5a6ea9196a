#include "train/adamw.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/assert_close.h"
#include "vrwkv/vrwkv_classifier.h"

namespace vrwkv::testing {
namespace {

TEST(AdamW, FollowsTheWrittenOutFormula) {
  torch::manual_seed(1);
  config::OptimizerOptions options;
  options.lr = 0.1;
  options.weight_decay = 0.3;
  options.betas = {0.8, 0.95};
  options.eps = 1e-3;
  at::Tensor parameter = at::randn({5}, at::kDouble).requires_grad_();
  at::Tensor expected = parameter.detach().clone(), m = at::zeros_like(expected), v = at::zeros_like(expected);
  train::AdamW optimizer({{{{"p", parameter}}, options.weight_decay, 0.5}}, options);
  for (int step = 1; step <= 7; ++step) {
    const at::Tensor g = at::randn({5}, at::kDouble);
    parameter.mutable_grad() = g;
    optimizer.set_learning_rate(0.1);
    optimizer.step();
    const double lr = 0.1 * 0.5;  // lr_scale
    expected = expected * (1 - lr * 0.3);
    m = 0.8 * m + 0.2 * g;
    v = 0.95 * v + 0.05 * g * g;
    expected = expected - lr * (m / (1 - std::pow(0.8, step))) / ((v / (1 - std::pow(0.95, step))).sqrt() + 1e-3);
    EXPECT_TRUE(close("parameter", expected, parameter, 1e-12));
  }
}

TEST(AdamW, ContinuesFromItsSavedState) {
  config::OptimizerOptions options;
  const auto make = [&](at::Tensor& parameter) { return train::AdamW({{{{"p", parameter}}, 0.05, 1.0}}, options); };
  at::Tensor a = at::ones({3}, at::kDouble).requires_grad_();
  train::AdamW first = make(a);
  const auto step = [](train::AdamW& optimizer, at::Tensor& parameter) {
    parameter.mutable_grad() = parameter.detach() * 0.7 + 0.1;
    optimizer.set_learning_rate(0.01);
    optimizer.step();
  };
  for (int i = 0; i < 5; ++i) step(first, a);
  at::Tensor b = a.detach().clone().requires_grad_();
  train::AdamW second = make(b);
  second.load_state(first.state());
  for (int i = 0; i < 5; ++i) {
    step(first, a);
    step(second, b);
  }
  EXPECT_TRUE(at::equal(a, b));
}

TEST(AdamW, StartsAtTheLearningRateOfItsOptions) {
  config::OptimizerOptions options;
  options.lr = 0.25;
  options.weight_decay = 0;
  at::Tensor parameter = at::zeros({1}, at::kDouble).requires_grad_();
  train::AdamW optimizer({{{{"p", parameter}}, 0.0, 2.0}}, options);
  parameter.mutable_grad() = at::ones({1}, at::kDouble);
  optimizer.step();
  EXPECT_NEAR(parameter.item<double>(), -0.5, 1e-7);  // The first step is as long as its learning rate.
}

TEST(AdamW, ListsEverythingThatDoesNotFitItsState) {
  at::Tensor parameter = at::ones({3}).requires_grad_();
  train::AdamW optimizer({{{{"p", parameter}}, 0.0, 1.0}}, {});
  try {
    optimizer.load_state({{"exp_avg.p", at::zeros({4})}, {"exp_avg.q", at::zeros({3})}, {"step", at::zeros({})}});
    FAIL() << "accepted a state of another model";
  } catch (const std::runtime_error& error) {
    const std::string text = error.what();
    EXPECT_NE(text.find("exp_avg.p: expected shape [3], got [4]"), std::string::npos) << text;
    EXPECT_NE(text.find("missing exp_avg_sq.p"), std::string::npos) << text;
    EXPECT_NE(text.find("unexpected exp_avg.q"), std::string::npos) << text;
  }
}

TEST(AdamW, ClipsByTheGlobalNormOnlyWhenItIsLarger) {
  at::Tensor a = at::zeros({2}, at::kDouble).requires_grad_(), b = at::zeros({1}, at::kDouble).requires_grad_();
  train::AdamW optimizer({{{{"a", a}}, 0.0, 1.0}, {{{"b", b}}, 0.0, 1.0}}, {});
  const auto set = [&] {
    a.mutable_grad() = at::full({2}, 2.0, at::kDouble);
    b.mutable_grad() = at::full({1}, 1.0, at::kDouble);
  };
  set();
  EXPECT_NEAR(optimizer.clip_grad_norm(1.5).item<double>(), 3.0, 1e-12);
  EXPECT_NEAR(a.grad()[0].item<double>(), 1.0, 1e-6);
  set();
  optimizer.clip_grad_norm(10.0);
  EXPECT_EQ(a.grad()[0].item<double>(), 2.0);
  set();
  EXPECT_NEAR(optimizer.clip_grad_norm(0.0).item<double>(), 3.0, 1e-12);
  EXPECT_EQ(b.grad()[0].item<double>(), 1.0);
}

TEST(ParamGroups, DecayEverythingButNormsAndBiases) {
  ClassifierOptions options;
  options.backbone.img_size = 32;
  options.backbone.embed_dims = 16;
  options.backbone.depth = 2;
  options.backbone.key_norm = true;
  options.backbone.init_values = 1.0;
  const VrwkvClassifier model(options);
  const auto groups = train::make_param_groups(*model, {});
  ASSERT_EQ(groups.size(), 2U);
  std::map<std::string, double> decay;
  for (const auto& group : groups) {
    for (const auto& parameter : group.parameters) decay[parameter.name] = group.weight_decay;
  }
  EXPECT_EQ(decay.size(), model->named_parameters().size());
  for (const char* name : {"backbone.pos_embed", "backbone.layers.0.att.spatial_decay",
                           "backbone.layers.1.att.spatial_first", "backbone.layers.1.ffn.spatial_mix_r",
                           "backbone.layers.0.gamma1", "head.fc.weight", "backbone.patch_embed.projection.weight"}) {
    EXPECT_EQ(decay.at(name), 0.05) << name;
  }
  for (const char* name : {"backbone.layers.0.ln0.weight", "backbone.ln1.bias", "backbone.layers.1.att.key_norm.weight",
                           "head.fc.bias", "backbone.patch_embed.projection.bias"}) {
    EXPECT_EQ(decay.at(name), 0.0) << name;
  }
}

}  // namespace
}  // namespace vrwkv::testing

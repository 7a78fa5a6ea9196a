#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/nn/functional/loss.h>
#include <torch/nn/modules/linear.h>

#include <map>
#include <thread>

#include "ops/weight_casts.h"
#include "tests/support/assert_close.h"
#include "tests/support/devices.h"
#include "vrwkv/autocast.h"
#include "vrwkv/checkpoint/state_dict.h"
#include "vrwkv/masked_autoencoder.h"
#include "vrwkv/vrwkv_classifier.h"

namespace vrwkv::testing {
namespace {

ClassifierOptions small_options() {
  ClassifierOptions options;
  options.num_classes = 5;
  options.backbone.img_size = 32;
  options.backbone.patch_size = 8;
  options.backbone.embed_dims = 64;
  options.backbone.depth = 2;
  return options;
}

/// On a GPU, sums of so many channels have their gradients in one kernel with the mixes that read them.
ClassifierOptions post_norm_options() {
  ClassifierOptions options = small_options();
  options.backbone.embed_dims = 256;
  options.backbone.depth = 3;
  options.backbone.post_norm = true;
  options.backbone.init_values = 0.7;
  return options;
}

/// Networks of all kinds, by name: what they are trained with may not matter.
std::map<std::string, ClassifierOptions> kinds() {
  std::map<std::string, ClassifierOptions> all;
  for (const char* name : {"plain", "checkpointed", "single shift", "key norm", "heads"}) all[name] = small_options();
  all["checkpointed"].backbone.with_cp = true;
  all["single shift"].backbone.shift = Shift::single_shift;
  all["key norm"].backbone.key_norm = true;
  all["heads"].backbone.attention = Attention::bi_wkv6;
  all["post norm"] = post_norm_options();
  return all;
}

bool is_product(const torch::nn::Module& module) {
  const auto* linear = module.as<torch::nn::LinearImpl>();
  return linear != nullptr && !linear->options.bias();
}

/// The weights that ops::linear takes.
std::vector<at::Tensor> product_weights(const torch::nn::Module& model) {
  std::vector<at::Tensor> weights;
  for (const auto& part : model.modules(/*include_self=*/false)) {
    if (is_product(*part)) weights.push_back(part->as<torch::nn::LinearImpl>()->weight);
  }
  return weights;
}

class AutocastTraining : public ::testing::TestWithParam<at::Device> {
 protected:
  static VrwkvClassifier make(const ClassifierOptions& options) {
    torch::manual_seed(3);
    VrwkvClassifier model(options);
    model->to(GetParam());
    // Later layers start at zero, which would hide them.
    const at::NoGradGuard no_grad;
    for (const at::Tensor& weight : product_weights(*model)) weight.normal_(0, 0.1);
    return model;
  }

  at::Tensor loss_of(VrwkvClassifier model) const {
    const AutocastGuard autocast(GetParam().type(), at::kBFloat16);
    return torch::nn::functional::cross_entropy(model(images), labels);
  }

  const at::Tensor images = (torch::manual_seed(1), at::randn({4, 3, 32, 32}).to(GetParam()));
  const at::Tensor labels = at::tensor({0, 3, 1, 4}, at::kLong).to(GetParam());
};

INSTANTIATE_TEST_SUITE_P(Devices, AutocastTraining, ::testing::ValuesIn(devices()), device_name);

TEST_P(AutocastTraining, TakesTheWeightsOfEveryStep) {
  for (const auto& [name, options] : kinds()) {
    VrwkvClassifier model = make(options);
    double first = 0, last = 0;
    for (int step = 0; step < 4; ++step) {
      SCOPED_TRACE(c10::str(name, " step ", step));
      const at::Tensor loss = loss_of(model);
      // Another network with these weights has cast none before.
      VrwkvClassifier fresh = make(options);
      load_state_dict(*fresh, state_dict(*model));
      EXPECT_TRUE(at::equal(loss, loss_of(fresh)));
      (step == 0 ? first : last) = loss.item<double>();
      loss.backward();
      const at::NoGradGuard no_grad;
      for (at::Tensor& parameter : model->parameters()) {
        parameter.sub_(0.05 * parameter.grad());
        parameter.mutable_grad().reset();
      }
    }
    EXPECT_NE(first, last) << name;
    // Loaded weights are the ones in force, with gradients and without.
    const VrwkvClassifier other = make(options);
    load_state_dict(*model, state_dict(*other));
    EXPECT_TRUE(at::equal(loss_of(model), loss_of(other))) << name;
  }
}

TEST_P(AutocastTraining, GivesTheSameGradientsBesideFrozenWeights) {
  for (const auto& [name, options] : kinds()) {
    VrwkvClassifier all = make(options), some = make(options);
    loss_of(all).backward();
    for (const at::Tensor& weight : product_weights(*some)) weight.set_requires_grad(false);
    loss_of(some).backward();
    const auto expected = all->named_parameters(), actual = some->named_parameters();
    for (const auto& parameter : actual) {
      SCOPED_TRACE(name + " " + parameter.key());
      ASSERT_EQ(parameter.value().grad().defined(), parameter.value().requires_grad());
      if (!parameter.value().requires_grad()) continue;
      EXPECT_TRUE(at::equal(expected[parameter.key()].grad(), parameter.value().grad()));
    }
  }
}

TEST_P(AutocastTraining, GivesTheGradientsOfFullPrecisionWithNormsAtTheEnds) {
  for (const bool checkpointed : {false, true}) {
    ClassifierOptions options = post_norm_options();
    options.backbone.drop_path_rate = 0.3;
    options.backbone.with_cp = checkpointed;
    const VrwkvClassifier rounded = make(options), full = make(options);
    torch::manual_seed(5);  // The same branches are dropped.
    loss_of(rounded).backward();
    torch::manual_seed(5);
    torch::nn::functional::cross_entropy(VrwkvClassifier(full)(images), labels).backward();
    const auto expected = full->named_parameters();
    for (const auto& parameter : rounded->named_parameters()) {
      EXPECT_TRUE(close(parameter.key(), expected[parameter.key()].grad(), parameter.value().grad(), 0.05));
    }
  }
}

TEST_P(AutocastTraining, DoesNotRoundTheGradientsOfWeightsOnCuda) {
  const auto expect_float32 = [](const std::string& name, const torch::nn::Module& model) {
    int64_t index = 0;
    for (const at::Tensor& weight : product_weights(model)) {
      const at::Tensor gradient = weight.grad();
      ASSERT_TRUE(gradient.defined()) << name << " " << index;
      ASSERT_EQ(gradient.scalar_type(), at::kFloat);
      EXPECT_EQ(at::equal(gradient, gradient.to(at::kBFloat16).to(at::kFloat)), !GetParam().is_cuda())
          << name << " " << index;
      ++index;
    }
    EXPECT_GT(index, 0);
  };
  for (const auto& [name, options] : kinds()) {
    const VrwkvClassifier model = make(options);
    loss_of(model).backward();
    expect_float32(name, *model);
  }
  torch::manual_seed(4);
  MaskedAutoencoderOptions options;
  options.backbone = small_options().backbone;
  options.mae.decoder_embed_dims = 32;
  options.mae.decoder_depth = 1;
  MaskedAutoencoder autoencoder(options);
  autoencoder->to(GetParam());
  at::Tensor loss;
  {
    const AutocastGuard autocast(GetParam().type(), at::kBFloat16);
    loss = autoencoder->forward(images, masking_noise(4, 16, GetParam())).error.mean();
  }
  loss.backward();
  expect_float32("autoencoder", *autoencoder);
}

TEST_P(AutocastTraining, CastsTheWeightsOfEachNetworkAndDropsThem) {
  VrwkvClassifier one = make(small_options()), other = make(small_options());
  {
    const at::NoGradGuard no_grad;
    for (const at::Tensor& weight : product_weights(*other)) weight.neg_();
  }
  const at::Tensor loss_of_one = loss_of(one), loss_of_other = loss_of(other);
  const auto kept = [](VrwkvClassifier model) {
    int64_t count = 0;
    for (const at::Tensor& weight : product_weights(*model)) {
      count += ops::kept_cast(weight, at::kBFloat16).defined() ? 1 : 0;
    }
    return count;
  };
  {
    const AutocastGuard both(GetParam().type(), at::kBFloat16);
    EXPECT_TRUE(at::equal(loss_of_one, loss_of(one)));
    EXPECT_TRUE(at::equal(loss_of_other, loss_of(other)));
    EXPECT_TRUE(at::equal(loss_of_one, loss_of(one)));
    const int64_t expected = GetParam().is_cuda() ? 14 : 0;
    EXPECT_EQ(kept(one), expected);
    EXPECT_EQ(kept(other), expected);
  }
  EXPECT_EQ(kept(one), 0);
  const AutocastGuard autocast(GetParam().type(), at::kBFloat16);
  const at::NoGradGuard no_grad;
  one(images);
  EXPECT_EQ(kept(one), 0);  // Kernels without gradients take the weights as they are.
}

TEST_P(AutocastTraining, RunsInSeveralThreads) {
  const auto gradients_after = [&](int steps, VrwkvClassifier model) {
    for (int step = 0; step < steps; ++step) {
      loss_of(model).backward();
      const at::NoGradGuard no_grad;
      for (at::Tensor& parameter : model->parameters()) parameter.sub_(0.01 * parameter.grad());
    }
    return model->parameters();
  };
  const auto expected = gradients_after(5, make(small_options()));
  const VrwkvClassifier one = make(small_options()), other = make(small_options());
  std::thread beside([&] { gradients_after(5, other); });
  gradients_after(5, one);
  beside.join();
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_TRUE(at::equal(expected[i], one->parameters()[i])) << i;
    EXPECT_TRUE(at::equal(expected[i], other->parameters()[i])) << i;
  }
}

}  // namespace
}  // namespace vrwkv::testing

#include <gtest/gtest.h>

#include <filesystem>
#include <set>

#include "config/run_config.h"

namespace vrwkv::config {
namespace {

const std::filesystem::path kFolder = VRWKV_SOURCE_DIR "/configs";

RunConfig load(const std::string& name) { return load_run_config(kFolder / (name + ".yaml"), {}); }

TEST(ShippedConfigs, AllLoadAndThereAreNoOthers) {
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(kFolder)) {
    SCOPED_TRACE(entry.path().string());
    names.insert(entry.path().filename().string());
    const RunConfig config = load_run_config(entry.path(), {});
    EXPECT_EQ(config.name, entry.path().stem().string());
    EXPECT_EQ(config.run.output_dir, "runs/" + config.name);
    EXPECT_FALSE(config.data.train.path.empty());
    EXPECT_FALSE(config.data.val.path.empty());
    EXPECT_EQ(config.data.train_transform.size, config.model.backbone.img_size);
    EXPECT_EQ(config.data.eval_transform.size, config.model.backbone.img_size);
  }
  EXPECT_EQ(names,
            (std::set<std::string>{
                "digits_vrwkv_micro.yaml", "cifar10_vrwkv_tiny.yaml", "imagenet_1k.yaml", "vrwkv_tiny_in1k.yaml",
                "vrwkv_small_in1k.yaml", "vrwkv_base_in1k.yaml", "vrwkv6_tiny_in1k.yaml", "vrwkv6_small_in1k.yaml",
                "vrwkv6_base_in1k.yaml", "vrwkv_large_in22k_192.yaml", "vrwkv_large_22kto1k_384.yaml",
                "finetune_example.yaml", "cifar10_full_recipe.yaml", "finetune_digits.yaml", "vrwkv_base_mae_in1k.yaml",
                "vrwkv_base_finetune_mae.yaml", "cifar10_mae_tiny.yaml", "cifar10_finetune_mae_tiny.yaml"}));
}

// The published recipes, as far as this version has them.
TEST(ShippedConfigs, ImageNetRecipes) {
  struct Recipe {
    std::string file, variant;
    double drop_path;
  };
  data::TrainTransformOptions transform;
  transform.rand_augment = {.num_ops = 2, .magnitude = 9.0, .magnitude_std = 0.5, .prob = 0.5, .increasing = true};
  transform.erasing.prob = 0.25;
  const data::MixOptions mix{.mixup_alpha = 0.8, .cutmix_alpha = 1.0, .prob = 1.0, .switch_prob = 0.5};
  for (const auto& [file, variant, drop_path] : {Recipe{"vrwkv_tiny", "tiny", 0.0},
                                                 {"vrwkv_small", "small", 0.3},
                                                 {"vrwkv_base", "base", 0.5},
                                                 {"vrwkv6_tiny", "vrwkv6_tiny", 0.0},
                                                 {"vrwkv6_small", "vrwkv6_small", 0.3},
                                                 {"vrwkv6_base", "vrwkv6_base", 0.5}}) {
    SCOPED_TRACE(file);
    const RunConfig config = load(file + "_in1k");
    ClassifierOptions model = variant_options(variant);
    model.backbone.drop_path_rate = drop_path;
    EXPECT_EQ(config.model, model);
    EXPECT_EQ(config.train.epochs, 300);
    EXPECT_EQ(config.train.batch_size, 1024);
    EXPECT_EQ(config.train.label_smoothing, 0.1);
    EXPECT_EQ(config.train.clip_grad_norm, 5.0);
    EXPECT_EQ(config.train.optimizer, OptimizerOptions());
    EXPECT_EQ(config.train.schedule.warmup_epochs, 20.0);
    EXPECT_EQ(config.train.schedule.min_lr_ratio, 0.01);
    EXPECT_EQ(config.train.schedule.warmup_ratio, 1e-3);
    EXPECT_EQ(config.data.eval_transform.resize, 256);
    EXPECT_EQ(config.data.train_transform, transform);
    EXPECT_EQ(config.data.mix, variant.ends_with("tiny") ? data::MixOptions() : mix);
    EXPECT_EQ(config.data.normalize, data::NormalizeOptions());
    EXPECT_EQ(config.run.dtype, Dtype::float32);
  }
  const RunConfig large = load("vrwkv_large_22kto1k_384");
  EXPECT_EQ(large.init.from, "checkpoints/vrwkv_large_in22k_192.safetensors");
  EXPECT_EQ(large.train.optimizer.decay_rule, DecayRule::layer_wise);
  EXPECT_EQ(large.model.backbone.drop_path_rate, 0.1);
  EXPECT_EQ(large.model.backbone.img_size, 384);
  EXPECT_EQ(large.train.epochs, 20);
  EXPECT_EQ(large.train.batch_size, 1024);
  EXPECT_EQ(large.train.clip_grad_norm, 1.0);
  EXPECT_EQ(large.train.optimizer.lr, 1e-5);
  EXPECT_EQ(large.train.schedule.warmup_epochs, 2.0);
  EXPECT_EQ(large.data.eval_transform.resize, 384);
  EXPECT_TRUE(large.train.ema.enabled);
  EXPECT_EQ(large.train.ema.decay, 0.9999);
  EXPECT_EQ(large.data.mix, (data::MixOptions{.mixup_alpha = 0.8, .prob = 0.5}));
  EXPECT_EQ(large.data.train_transform.rand_augment, data::RandAugmentOptions());
  EXPECT_EQ(large.data.train_transform.erasing, data::ErasingOptions());
  EXPECT_EQ(large.run.dtype, Dtype::float16);
}

TEST(ShippedConfigs, TheLargeModelsTwoStepsFitEachOther) {
  const RunConfig first = load("vrwkv_large_in22k_192"), second = load("vrwkv_large_22kto1k_384");
  EXPECT_EQ(first.model.num_classes, 21841);
  EXPECT_EQ(second.model.num_classes, 1000);
  EXPECT_EQ(first.model.backbone.img_size, 192);
  EXPECT_EQ(first.model.head, HeadKind::mlp_tanh);
  ClassifierOptions same = first.model;
  same.num_classes = 1000;
  same.backbone.img_size = 384;
  EXPECT_EQ(same, second.model);
}

TEST(ShippedConfigs, CifarIsTheLearningCheck) {
  const RunConfig config = load("cifar10_vrwkv_tiny");
  EXPECT_EQ(config.model.backbone.img_size, 32);
  EXPECT_EQ(config.model.backbone.patch_size, 4);
  EXPECT_EQ(config.model.backbone.embed_dims, 192);
  EXPECT_EQ(config.model.backbone.depth, 12);
  EXPECT_EQ(config.model.backbone.drop_path_rate, 0.1);
  EXPECT_EQ(config.model.num_classes, 10);
  EXPECT_EQ(config.data.train_transform.crop, data::TrainCrop::pad);
  EXPECT_EQ(config.data.train_transform.padding, 4);
  EXPECT_EQ(config.data.train_transform.hflip, 0.5);
  EXPECT_NEAR(config.data.normalize.mean[0], 0.4914 * 255, 1e-3);
  EXPECT_NEAR(config.data.normalize.std[2], 0.2616 * 255, 1e-3);
  EXPECT_EQ(config.train.epochs, 20);
  EXPECT_EQ(config.train.batch_size, 256);
  EXPECT_EQ(config.train.label_smoothing, 0.1);
  EXPECT_EQ(config.train.optimizer, OptimizerOptions());
  EXPECT_EQ(config.train.schedule.warmup_epochs, 2.0);
  EXPECT_EQ(config.run.dtype, Dtype::bfloat16);
}

}  // namespace
}  // namespace vrwkv::config

#include "config/run_config.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include "tests/config/temporary_config.h"

namespace vrwkv::config {
namespace {

TEST(RunConfig, AnEmptyMappingGivesTheDefaults) {
  RunConfig expected;
  expected.name = "x";
  expected.run.output_dir = "runs/x";
  EXPECT_EQ(load_text("{}"), expected);
}

// Each key with a value that differs from its default, compared member by member: a key bound to the wrong member
// shows.
TEST(RunConfig, EveryKeyReachesItsMember) {
  const RunConfig config = load_text(R"(
model:
  variant: none
  img_size: 40
  patch_size: 5
  in_channels: 3
  embed_dims: 20
  depth: 6
  hidden_rate: 7
  post_norm: true
  init_values: 1e-2
  key_norm: true
  drop_rate: 0.11
  drop_path_rate: 0.12
  init_mode: global
  linear_init: zero_orthogonal
  with_cp: true
  num_classes: 13
  head: mlp_tanh
data:
  train: {path: a/train, format: list, list: a/train.txt}
  val: {path: "b/val.tar", format: tar, list: ""}
  train_transform:
    size: 35
    crop: resize
    scale: [0.14, 0.15]
    ratio: [0.16, 1.7]
    padding: 8
    hflip: 0.19
  eval_transform: {resize: 42, size: 45}
  normalize:
    mean: [1, 2, 3]
    std: [4, 5, 6.5]
  decode: auto
  gpu_share: 0.205
  workers: 21
  prefetch_batches: 22
  max_corrupt_share: 0.23
train:
  epochs: 24
  batch_size: 25
  grad_accumulation: 5
  label_smoothing: 0.26
  clip_grad_norm: 0.27
  optimizer:
    name: adamw
    lr: 0.28
    weight_decay: 0.29
    betas: [0.3, 0.31]
    eps: 0.32
    decay_rule: norm_bias
  schedule: {warmup_epochs: 0.33, warmup_ratio: 0.34, min_lr_ratio: 0.35}
  eval_every: 36
  checkpoint_every: 37
  checkpoint_every_steps: 38
  keep_checkpoints: 39
  log_every: 40
  cuda_graph: off
eval: {batch_size: 41}
run:
  output_dir: out/here
  device: cuda:3
  dtype: float64
  seed: 43
  threads: 44
)");
  EXPECT_EQ(config.name, "x");
  const VrwkvOptions& model = config.model.backbone;
  EXPECT_EQ(model.img_size, 40);
  EXPECT_EQ(model.patch_size, 5);
  EXPECT_EQ(model.in_channels, 3);
  EXPECT_EQ(model.embed_dims, 20);
  EXPECT_EQ(model.depth, 6);
  EXPECT_EQ(model.hidden_rate, 7);
  EXPECT_TRUE(model.post_norm);
  EXPECT_EQ(model.init_values, 1e-2);
  EXPECT_TRUE(model.key_norm);
  EXPECT_EQ(model.drop_rate, 0.11);
  EXPECT_EQ(model.drop_path_rate, 0.12);
  EXPECT_EQ(model.init_mode, InitMode::global);
  EXPECT_EQ(model.linear_init, LinearInit::zero_orthogonal);
  EXPECT_TRUE(model.with_cp);
  EXPECT_EQ(config.model.num_classes, 13);
  EXPECT_EQ(config.model.head, HeadKind::mlp_tanh);

  EXPECT_EQ(config.data.train.path, "a/train");
  EXPECT_EQ(config.data.train.format, data::DatasetFormat::list);
  EXPECT_EQ(config.data.train.list, "a/train.txt");
  EXPECT_EQ(config.data.val.path, "b/val.tar");
  EXPECT_EQ(config.data.val.format, data::DatasetFormat::tar);
  EXPECT_EQ(config.data.val.list, "");
  EXPECT_EQ(config.data.train_transform.size, 35);
  EXPECT_EQ(config.data.train_transform.crop, data::TrainCrop::resize);
  EXPECT_EQ(config.data.train_transform.scale, (std::array<double, 2>{0.14, 0.15}));
  EXPECT_EQ(config.data.train_transform.ratio, (std::array<double, 2>{0.16, 1.7}));
  EXPECT_EQ(config.data.train_transform.padding, 8);
  EXPECT_EQ(config.data.train_transform.hflip, 0.19);
  EXPECT_EQ(config.data.eval_transform.resize, 42);
  EXPECT_EQ(config.data.eval_transform.size, 45);
  EXPECT_EQ(config.data.normalize.mean, (std::array<double, 3>{1, 2, 3}));
  EXPECT_EQ(config.data.normalize.std, (std::array<double, 3>{4, 5, 6.5}));
  EXPECT_EQ(config.data.decode, data::DecodeDevice::automatic);
  EXPECT_EQ(config.data.gpu_share, 0.205);
  EXPECT_EQ(config.data.workers, 21);
  EXPECT_EQ(config.data.prefetch_batches, 22);
  EXPECT_EQ(config.data.max_corrupt_share, 0.23);

  EXPECT_EQ(config.train.epochs, 24);
  EXPECT_EQ(config.train.batch_size, 25);
  EXPECT_EQ(config.train.grad_accumulation, 5);
  EXPECT_EQ(config.train.label_smoothing, 0.26);
  EXPECT_EQ(config.train.clip_grad_norm, 0.27);
  EXPECT_EQ(config.train.optimizer.name, OptimizerName::adamw);
  EXPECT_EQ(config.train.optimizer.lr, 0.28);
  EXPECT_EQ(config.train.optimizer.weight_decay, 0.29);
  EXPECT_EQ(config.train.optimizer.betas, (std::array<double, 2>{0.3, 0.31}));
  EXPECT_EQ(config.train.optimizer.eps, 0.32);
  EXPECT_EQ(config.train.optimizer.decay_rule, DecayRule::norm_bias);
  EXPECT_EQ(config.train.schedule.warmup_epochs, 0.33);
  EXPECT_EQ(config.train.schedule.warmup_ratio, 0.34);
  EXPECT_EQ(config.train.schedule.min_lr_ratio, 0.35);
  EXPECT_EQ(config.train.eval_every, 36);
  EXPECT_EQ(config.train.checkpoint_every, 37);
  EXPECT_EQ(config.train.checkpoint_every_steps, 38);
  EXPECT_EQ(config.train.keep_checkpoints, 39);
  EXPECT_EQ(config.train.log_every, 40);
  EXPECT_EQ(config.train.cuda_graph, GraphMode::off);
  EXPECT_EQ(config.eval.batch_size, 41);
  EXPECT_EQ(config.run.output_dir, "out/here");
  EXPECT_EQ(config.run.device, "cuda:3");
  EXPECT_EQ(config.run.dtype, Dtype::float64);
  EXPECT_EQ(config.run.seed, 43);
  EXPECT_EQ(config.run.threads, 44);
}

TEST(RunConfig, EveryChoiceNameGivesItsEnumerator) {
  const auto model = [](const std::string& text) { return load_text("model: {" + text + "}").model; };
  EXPECT_EQ(model("init_mode: fancy").backbone.init_mode, InitMode::fancy);
  EXPECT_EQ(model("init_mode: local").backbone.init_mode, InitMode::local);
  EXPECT_EQ(model("linear_init: trunc_normal").backbone.linear_init, LinearInit::trunc_normal);
  EXPECT_EQ(model("head: linear").head, HeadKind::linear);
  const auto crop = [](const std::string& name) {
    return load_text("data: {train_transform: {crop: " + name + "}}").data.train_transform.crop;
  };
  EXPECT_EQ(crop("random_resized"), data::TrainCrop::random_resized);
  EXPECT_EQ(crop("pad"), data::TrainCrop::pad);
  const auto format = [](const std::string& name) {
    return load_text("data: {val: {format: " + name + "}}").data.val.format;
  };
  EXPECT_EQ(format("auto"), data::DatasetFormat::automatic);
  EXPECT_EQ(format("folder"), data::DatasetFormat::folder);
  EXPECT_EQ(load_text("run: {dtype: float32}").run.dtype, Dtype::float32);
  EXPECT_EQ(load_text("run: {dtype: bfloat16}").run.dtype, Dtype::bfloat16);
}

TEST(RunConfig, VariantGivesTheStartAndExplicitKeysWin) {
  const TemporaryConfigs configs;
  configs.write("plain.yaml", "model: {variant: base}");
  EXPECT_EQ(configs.load("plain.yaml").model, variant_options("base"));
  // The explicit key stands before the variant, and in the base file.
  configs.write("keys.yaml", "model: {depth: 3, variant: tiny}");
  configs.write("top.yaml", "base: keys.yaml\nmodel: {variant: small}");
  ClassifierOptions expected = variant_options("small");
  expected.backbone.depth = 3;
  EXPECT_EQ(configs.load("top.yaml").model, expected);
  expected.num_classes = 10;
  expected.backbone.post_norm = false;
  EXPECT_EQ(configs.load("top.yaml", {"model.num_classes=10", "model.post_norm=false"}).model, expected);
  EXPECT_EQ(configs.load("plain.yaml", {"model.variant=none"}).model, ClassifierOptions());
}

TEST(RunConfig, BaseFileOverridesPrecedence) {
  const TemporaryConfigs configs;
  configs.write("b.yaml", "train: {epochs: 5, batch_size: 6, log_every: 7}\nrun: {seed: 8}");
  configs.write("c.yaml", "base: b.yaml\ntrain: {batch_size: 60, log_every: 70}");
  const RunConfig config = configs.load("c.yaml", {"train.log_every=700"});
  EXPECT_EQ(config.name, "c");
  EXPECT_EQ(config.run.output_dir, "runs/c");
  EXPECT_EQ(config.train.epochs, 5);
  EXPECT_EQ(config.train.batch_size, 60);
  EXPECT_EQ(config.train.log_every, 700);
  EXPECT_EQ(config.run.seed, 8);
}

TEST(RunConfig, PathsAreExpanded) {
  ASSERT_EQ(::setenv("VRWKV_TEST_FOLDER", "/data sets/x", 1), 0);
  ASSERT_EQ(::setenv("HOME", "/home/someone", 1), 0);
  ::unsetenv("VRWKV_TEST_ABSENT");
  const auto path = [](const std::string& text) {
    return load_text("data: {train: {path: '" + text + "'}}").data.train.path;
  };
  const auto error = [](const std::string& text) { return error_of("data: {train: {path: '" + text + "'}}"); };
  EXPECT_EQ(path("${VRWKV_TEST_FOLDER}/train.tar"), "/data sets/x/train.tar");
  EXPECT_EQ(path("a${VRWKV_TEST_FOLDER}${VRWKV_TEST_FOLDER}"), "a/data sets/x/data sets/x");
  EXPECT_EQ(path("~"), "/home/someone");
  EXPECT_EQ(path("~/x"), "/home/someone/x");
  EXPECT_EQ(path("~x/~"), "~x/~");
  EXPECT_EQ(path("$$x$y$"), "$x$y$");
  EXPECT_EQ(path("$${VRWKV_TEST_ABSENT}"), "${VRWKV_TEST_ABSENT}");
  const std::string start = "x.yaml:1: 'data.train.path' cannot be expanded: ";
  EXPECT_EQ(error("${VRWKV_TEST_ABSENT}/x"),
            start + "the environment variable 'VRWKV_TEST_ABSENT' is not set; set it, or write the path itself");
  EXPECT_EQ(error("a/${HOME"), start + "'${' has no closing '}'; write $$ for a dollar");
  EXPECT_EQ(error("${}"), start + "'${}' does not name an environment variable; write $$ for a dollar");
  EXPECT_EQ(error("${1A}"), start + "'${1A}' does not name an environment variable; write $$ for a dollar");
  EXPECT_EQ(load_text("run: {output_dir: 'a/{name}/{name}/{other}'}").run.output_dir, "a/x/x/{other}");
}

}  // namespace
}  // namespace vrwkv::config

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "tests/config/temporary_config.h"

namespace vrwkv::config {
namespace {

TEST(ConfigErrors, UnknownKeysAtEachLevelWithTheNearName) {
  EXPECT_EQ(error_of("trian:\n  epochs: 3\n"), "x.yaml:1: unknown key 'trian' (did you mean 'train'?)");
  EXPECT_EQ(error_of("train:\n  epoch: 3\n"), "x.yaml:2: unknown key 'train.epoch' (did you mean 'epochs'?)");
  EXPECT_EQ(error_of("train:\n  schedule:\n\n    warmup_epoch: 3\n"),
            "x.yaml:4: unknown key 'train.schedule.warmup_epoch' (did you mean 'warmup_epochs'?)");
  EXPECT_EQ(error_of("data: {normalize: {stdd: [1, 1, 1]}}"),
            "x.yaml:1: unknown key 'data.normalize.stdd' (did you mean 'std'?)");
  // In the wrong section.
  EXPECT_EQ(error_of("train:\n  warmup_epoch: 3\n"),
            "x.yaml:2: unknown key 'train.warmup_epoch' (did you mean 'train.schedule.warmup_epochs'?)");
  EXPECT_EQ(error_of("epochs: 3\n"), "x.yaml:1: unknown key 'epochs' (did you mean 'train.epochs'?)");
  EXPECT_EQ(error_of("Train: {}\n"), "x.yaml:1: unknown key 'Train' (did you mean 'train'?)");
  // Nothing is near.
  EXPECT_EQ(error_of("eval:\n  mixup_prob: 1\n"), "x.yaml:2: unknown key 'eval.mixup_prob' (known here: batch_size)");
  EXPECT_EQ(error_of("zzzzzz: 1\n"),
            "x.yaml:1: unknown key 'zzzzzz' (known here: task, model, mae, data, train, eval, run)");
  // Belongs to dense tasks in code, not to a file.
  EXPECT_EQ(error_of("model: {out_indices: [1]}").substr(0, 41), "x.yaml:1: unknown key 'model.out_indices'");
}

TEST(ConfigErrors, WrongTypes) {
  const std::string integer = "x.yaml:1: 'train.epochs' must be an integer >= 1, got ";
  for (const auto& [value, got] :
       std::vector<std::pair<std::string, std::string>>{{"ten", "'ten'"},
                                                        {"3.0", "'3.0'"},
                                                        {"1e3", "'1e3'"},
                                                        {"true", "'true'"},
                                                        {"'3'", "the string \"3\""},
                                                        {"[3]", "a list of 1"},
                                                        {"{a: 3}", "a mapping"},
                                                        {"0x10", "'0x10'"},
                                                        {"010", "'010'"},
                                                        {"", "nothing (null)"},
                                                        {"99999999999999999999", "'99999999999999999999'"},
                                                        {"2147483648", "'2147483648'; the largest is 2147483647"}}) {
    EXPECT_EQ(error_of("train: {epochs: " + value + "}"), integer + got);
  }
  const std::string number = "x.yaml:1: 'train.optimizer.lr' must be a number > 0, got ";
  for (const auto& [value, got] : std::vector<std::pair<std::string, std::string>>{{"fast", "'fast'"},
                                                                                   {"nan", "'nan'"},
                                                                                   {".nan", "'.nan'"},
                                                                                   {".inf", "'.inf'"},
                                                                                   {"inf", "'inf'"},
                                                                                   {"1e999", "'1e999'"},
                                                                                   {"true", "'true'"},
                                                                                   {"'1e-3'", "the string \"1e-3\""},
                                                                                   {"null", "nothing (null)"},
                                                                                   {"[1]", "a list of 1"}}) {
    EXPECT_EQ(error_of("train: {optimizer: {lr: " + value + "}}"), number + got);
  }
  const std::string truth = "x.yaml:1: 'model.post_norm' must be true or false, got ";
  for (const auto& [value, got] : std::vector<std::pair<std::string, std::string>>{{"1", "'1'"},
                                                                                   {"yes", "'yes'"},
                                                                                   {"True", "'True'"},
                                                                                   {"'true'", "the string \"true\""},
                                                                                   {"", "nothing (null)"}}) {
    EXPECT_EQ(error_of("model: {post_norm: " + value + "}"), truth + got);
  }
  const std::string text = "x.yaml:1: 'data.val.path' must be a string, got ";
  for (const auto& [value, got] : std::vector<std::pair<std::string, std::string>>{
           {"2012", "'2012'; write it in quotes"},
           {"1.5", "'1.5'; write it in quotes"},
           {"true", "'true'; write it in quotes"},
           {"null", "nothing (null)"},
           {"[a]", "a list of 1"},
           {"\"a\\nb\"", "the string \"a\\x0ab\"; control characters cannot be part of it"}}) {
    EXPECT_EQ(error_of("data: {val: {path: " + value + "}}"), text + got);
  }
  EXPECT_EQ(load_text("data: {val: {path: '2012'}}").data.val.path, "2012");
  EXPECT_EQ(load_text("train: {optimizer: {lr: 1}}").train.optimizer.lr, 1.0);
  EXPECT_EQ(error_of("train: 3"), "x.yaml:1: 'train' must be a section of keys, got '3'");
  EXPECT_EQ(error_of("train: [epochs]"), "x.yaml:1: 'train' must be a section of keys, got a list of 1");
}

TEST(ConfigErrors, Choices) {
  EXPECT_EQ(error_of("run: {dtype: bflaot16}"),
            "x.yaml:1: 'run.dtype' must be one of float64, float32, bfloat16, float16, got 'bflaot16' (did you mean "
            "'bfloat16'?)");
  EXPECT_EQ(error_of("model: {variant: huge}"),
            "x.yaml:1: 'model.variant' must be one of none, tiny, small, base, large, "
            "vrwkv6_tiny, vrwkv6_small, vrwkv6_base, got 'huge'");
  EXPECT_EQ(error_of("model: {head: 1}"), "x.yaml:1: 'model.head' must be one of linear, mlp_tanh, got '1'");
  EXPECT_EQ(error_of("model: {head: [linear]}"),
            "x.yaml:1: 'model.head' must be one of linear, mlp_tanh, got a list of 1");
  for (const char* device : {"cpu", "cuda", "cuda:0", "cuda:15", "auto"}) {
    EXPECT_EQ(load_text("run: {device: '" + std::string(device) + "'}").run.device, device);
  }
  for (const char* device : {"gpu", "cuda:", "cuda:-1", "cuda:+1", "cuda:x", "cuda:1.5", "cuda:99999", "CPU"}) {
    EXPECT_EQ(
        error_of("run: {device: '" + std::string(device) + "'}"),
        "x.yaml:1: 'run.device' must be cpu, cuda, cuda:N or auto, got the string \"" + std::string(device) + "\"");
  }
}

TEST(ConfigErrors, Lists) {
  const std::string start = "x.yaml:1: 'data.normalize.mean' must be a list of 3 numbers in [0, 255], got ";
  EXPECT_EQ(error_of("data: {normalize: {mean: [1, 2]}}"), start + "a list of 2");
  EXPECT_EQ(error_of("data: {normalize: {mean: 5}}"), start + "'5'");
  EXPECT_EQ(error_of("data: {normalize: {mean: }}"), start + "nothing (null)");
  EXPECT_EQ(error_of("data:\n  normalize:\n    mean:\n    - 1\n    - x\n    - 256\n"),
            "x.yaml:5: 'data.normalize.mean[1]' must be a number in [0, 255], got 'x'\n"
            "x.yaml:6: 'data.normalize.mean[2]' must be a number in [0, 255], got '256'");
}

TEST(ConfigErrors, Ranges) {
  const std::vector<std::pair<std::string, std::vector<std::string>>> refused = {
      {"model.img_size", {"0", "-16"}},
      {"model.patch_size", {"0"}},
      {"model.in_channels", {"0", "1", "4"}},
      {"model.embed_dims", {"3"}},
      {"model.depth", {"0"}},
      {"model.hidden_rate", {"0"}},
      {"model.init_values", {"-0.1"}},
      {"model.drop_rate", {"-0.1", "1"}},
      {"model.drop_path_rate", {"-0.1", "1"}},
      {"model.num_classes", {"0"}},
      {"data.train_transform.size", {"0"}},
      {"data.train_transform.scale", {"[0, 1]", "[0.1, 1.1]"}},
      {"data.train_transform.ratio", {"[0, 1]"}},
      {"data.train_transform.padding", {"-1"}},
      {"data.train_transform.hflip", {"-0.1", "1.1"}},
      {"data.eval_transform.resize", {"0"}},
      {"data.eval_transform.size", {"0"}},
      {"data.normalize.std", {"[1, 0, 1]"}},
      {"data.decode", {"cuda"}},
      {"data.gpu_share", {"-0.1", "1.1"}},
      {"data.workers", {"-1"}},
      {"data.prefetch_batches", {"0"}},
      {"data.max_corrupt_share", {"-0.1", "1.1"}},
      {"train.epochs", {"0"}},
      {"train.batch_size", {"0"}},
      {"train.grad_accumulation", {"0"}},
      {"train.label_smoothing", {"-0.1", "1"}},
      {"train.clip_grad_norm", {"-1"}},
      {"train.optimizer.lr", {"0", "-1"}},
      {"train.optimizer.weight_decay", {"-0.1"}},
      {"train.optimizer.betas", {"[1, 0.9]", "[0.9, -0.1]"}},
      {"train.optimizer.eps", {"0"}},
      {"train.schedule.warmup_epochs", {"-1"}},
      {"train.schedule.warmup_ratio", {"-0.1", "1.1"}},
      {"train.schedule.min_lr_ratio", {"-0.1", "1.1"}},
      {"train.optimizer.momentum", {"-0.1", "1"}},
      {"train.schedule.step_epochs", {"0"}},
      {"train.schedule.gamma", {"0", "1.1"}},
      {"train.schedule.warmup_steps", {"-1"}},
      {"train.loss.bce_threshold", {"-0.1", "1"}},
      {"train.ema.decay", {"-0.1", "1"}},
      {"train.ema.every", {"0"}},
      {"train.loss_scale.initial", {"0"}},
      {"train.loss_scale.growth", {"0.9"}},
      {"train.loss_scale.backoff", {"0", "1.1"}},
      {"train.loss_scale.interval", {"0"}},
      {"train.eval_every", {"0"}},
      {"train.checkpoint_every", {"0"}},
      {"train.checkpoint_every_steps", {"-1"}},
      {"train.keep_checkpoints", {"-1"}},
      {"train.log_every", {"0"}},
      {"eval.batch_size", {"0"}},
      {"run.seed", {"-1"}},
      {"run.threads", {"-1"}},
  };
  for (const auto& [key, values] : refused) {
    for (const std::string& value : values) {
      const std::string message = error_of("{}", {key + "=" + value});
      EXPECT_EQ(message.substr(0, 15 + key.size()), "command line: '" + key) << key << "=" << value << ": " << message;
      EXPECT_NE(message.find(" must be "), std::string::npos) << message;
    }
  }
}

TEST(ConfigErrors, AllOfAFileAtOnceInTheOrderOfItsLines) {
  EXPECT_EQ(error_of("run:\n  seed: x\ntrain:\n  epochs: ten\n  batchsize: 4\nmodel:\n  depth: 0\n"),
            "x.yaml:2: 'run.seed' must be an integer >= 0, got 'x'\n"
            "x.yaml:4: 'train.epochs' must be an integer >= 1, got 'ten'\n"
            "x.yaml:5: unknown key 'train.batchsize' (did you mean 'batch_size'?)\n"
            "x.yaml:7: 'model.depth' must be an integer >= 1, got '0'");
}

TEST(ConfigErrors, NameTheFileThatTheValueComesFrom) {
  const TemporaryConfigs configs;
  configs.write("b.yaml", "train:\n  epochs: 3\n  batch_size: 8\n  grad_accumulation: none\nevil: 1\n");
  configs.write("c.yaml", "base: b.yaml\ntrain:\n  epochs: no\n");
  EXPECT_EQ(configs.error("c.yaml"),
            "b.yaml:4: 'train.grad_accumulation' must be an integer >= 1, got 'none'\n"
            "b.yaml:5: unknown key 'evil' (did you mean 'eval'?)\n"
            "c.yaml:3: 'train.epochs' must be an integer >= 1, got 'no'");
  // Repaired from above: what the file says does not matter any more.
  EXPECT_EQ(configs.error("c.yaml", {"train.epochs=3", "train.grad_accumulation=2"}),
            "b.yaml:5: unknown key 'evil' (did you mean 'eval'?)");
}

TEST(ConfigErrors, ValuesThatContradictEachOther) {
  EXPECT_EQ(error_of("model:\n  patch_size: 16\n  img_size: 225\n"),
            "x.yaml:3: model: img_size must be a multiple of patch_size (16), got 225");
  EXPECT_EQ(
      error_of("data:\n  train_transform:\n    size: 225\n"),
      "x.yaml:3: 'data.train_transform.size' (225) must be a multiple of 'model.patch_size' (16); the nearest valid "
      "values are 224 or 240");
  EXPECT_EQ(error_of("data:\n  eval_transform: {size: 9}\n"),
            "x.yaml:2: 'data.eval_transform.size' (9) must be a multiple of 'model.patch_size' (16); the nearest valid "
            "values are 16");
  // Only the patch size is written; the message points at the file, or the section that would hold the key.
  EXPECT_EQ(
      error_of("model: {img_size: 30, patch_size: 15}\n"),
      "x.yaml: 'data.train_transform.size' (224) must be a multiple of 'model.patch_size' (15); the nearest valid "
      "values are 210 or 225\n"
      "x.yaml: 'data.eval_transform.size' (224) must be a multiple of 'model.patch_size' (15); the nearest valid "
      "values are 210 or 225");
  EXPECT_EQ(error_of("model:\n  in_channels: 1\n"),
            "x.yaml:2: 'model.in_channels' must be 3, as images are read as RGB, got 1");
  EXPECT_EQ(error_of("train:\n  batch_size: 10\n  grad_accumulation: 4\n"),
            "x.yaml:3: 'train.grad_accumulation' (4) must divide 'train.batch_size' (10)");
  EXPECT_EQ(error_of("train:\n  epochs: 3\n  schedule:\n    warmup_epochs: 3.5\n"),
            "x.yaml:4: 'train.schedule.warmup_epochs' (3.5) must be at most 'train.epochs' (3)");
  EXPECT_EQ(error_of("train: {epochs: 3, schedule: {warmup_epochs: 3}}"), "no error");
  EXPECT_EQ(error_of("data: {train_transform: {scale: [0.5, 0.25]}}"),
            "x.yaml:1: 'data.train_transform.scale' must be in ascending order, got [0.5, 0.25]");
  EXPECT_EQ(error_of("data: {train_transform: {ratio: [2, 1]}}"),
            "x.yaml:1: 'data.train_transform.ratio' must be in ascending order, got [2.0, 1.0]");
  EXPECT_EQ(error_of("data: {val: {format: list}}"),
            "x.yaml:1: 'data.val.format' is list, but 'data.val.list' names no file; set it");
  EXPECT_EQ(
      error_of("data: {val: {format: tar, list: v.txt}}"),
      "x.yaml:1: 'data.val.list' is set, but 'data.val.format' does not use it; set the format to list, or remove "
      "this key");
  EXPECT_EQ(error_of("data: {val: {list: v.txt}}"), "no error");
  EXPECT_EQ(error_of("data: {val: {format: folder, ground_truth: g.txt, synsets: s.txt}}"),
            "x.yaml:1: 'data.val.ground_truth' is set, but counts only with 'data.val.format' tar; remove this key");
  EXPECT_EQ(error_of("data: {gpu_share: 0.5}"),
            "x.yaml:1: 'data.gpu_share' is set, but counts only with 'data.decode' gpu or auto; remove this key");
  EXPECT_EQ(error_of("data: {decode: gpu, gpu_share: 0.5}"), "no error");
  EXPECT_EQ(error_of("data: {val: {synsets: s.txt}}"),
            "x.yaml:1: 'data.val.synsets' is set, but counts only with 'data.val.ground_truth'; remove this key");
  EXPECT_EQ(error_of("data: {val: {ground_truth: g.txt}}"),
            "x.yaml:1: 'data.val.ground_truth' is set, but 'data.val.synsets' names no file; set it");
  EXPECT_EQ(error_of("data: {val: {ground_truth: g.txt, synsets: s.txt, index_cache: off}}"), "no error");
  EXPECT_EQ(error_of("data: {train: {format: synthetic, index_cache: c}}"),
            "x.yaml:1: 'data.train.index_cache' is set, but counts only with 'data.train.format' folder or tar; remove "
            "this key");
  EXPECT_EQ(error_of("data: {train: {index_cache: ''}}"),
            "x.yaml:1: 'data.train.index_cache' is empty; write auto, off or the name of a folder");
  // A crop larger than the resized image is padded: allowed.
  EXPECT_EQ(error_of("data: {eval_transform: {resize: 100, size: 224}}"), "no error");
}

TEST(ConfigErrors, ListsOfTexts) {
  const std::string list = "x.yaml:1: 'train.freeze' must be a list of strings, got ";
  EXPECT_EQ(error_of("train: {freeze: head}"), list + "'head'");
  EXPECT_EQ(error_of("train: {freeze: [[a]]}"), list + "a list of 1");
  EXPECT_EQ(error_of("train: {freeze: [a, 3]}"), list + "'3'; write it in quotes");
  EXPECT_EQ(error_of("train: {freeze: [\"*.bias\", 'a?', '3']}"), "no error");
  EXPECT_EQ(error_of("train: {freeze: []}"), "no error");
}

TEST(ConfigErrors, SyntheticDataHasNoMoreClassesThanTheHead) {
  EXPECT_EQ(error_of("model: {num_classes: 3}\ndata:\n  val: {format: synthetic, synthetic: {classes: 4}}"),
            "x.yaml:3: 'data.val.synthetic.classes' (4) must be at most 'model.num_classes' (3)");
  EXPECT_EQ(error_of("model: {num_classes: 3}\ndata:\n  val: {synthetic: {classes: 4}}"), "no error");
}

TEST(ConfigErrors, MicroBatchesAreAnotherWayToSplit) {
  EXPECT_EQ(error_of("train: {batch_size: 8, micro_batch_size: 4, grad_accumulation: 2}"),
            "x.yaml:1: 'train.micro_batch_size' and 'train.grad_accumulation' are both set; keep one of them");
  EXPECT_EQ(error_of("train: {batch_size: 8, micro_batch_size: 3}"),
            "x.yaml:1: 'train.micro_batch_size' (3) must divide 'train.batch_size' (8)");
  EXPECT_EQ(error_of("train: {batch_size: 8, micro_batch_size: 4}"), "no error");
}

TEST(ConfigErrors, AugmentationKeysThatCountOnlyWithAnotherValue) {
  const auto refused = [](const std::vector<std::string>& with, const std::string& key, const std::string& value,
                          const std::string& condition) {
    std::vector<std::string> overrides{key + "=" + value};
    overrides.insert(overrides.end(), with.begin(), with.end());
    EXPECT_EQ(error_of("{}", overrides),
              "command line: '" + key + "' is set, but counts only with " + condition + "; remove this key");
  };
  const std::string rand_augment = "data.train_transform.rand_augment.", erasing = "data.train_transform.erasing.";
  for (const auto& [key, value] : std::vector<std::pair<std::string, std::string>>{
           {"magnitude", "8"}, {"magnitude_std", "0.1"}, {"prob", "1"}, {"increasing", "false"}}) {
    refused({}, rand_augment + key, value, "'" + rand_augment + "num_ops' above 0");
    EXPECT_EQ(error_of("{}", {rand_augment + "num_ops=1", rand_augment + key + "=" + value}), "no error");
  }
  for (const auto& [key, value] : std::vector<std::pair<std::string, std::string>>{
           {"fill", "zero"}, {"area", "[0.1, 0.2]"}, {"ratio", "[1, 2]"}, {"max_count", "2"}}) {
    refused({}, erasing + key, value, "'" + erasing + "prob' above 0");
    EXPECT_EQ(error_of("{}", {erasing + "prob=0.1", erasing + key + "=" + value}), "no error");
  }
  const std::string either = "'data.mix.mixup_alpha' or 'data.mix.cutmix_alpha' above 0";
  refused({}, "data.mix.prob", "0.5", either);
  refused({}, "data.mix.mode", "element", either);
  for (const char* one : {"data.mix.mixup_alpha=1", "data.mix.cutmix_alpha=1"}) {
    refused({one}, "data.mix.switch_prob", "0.25", "'data.mix.mixup_alpha' and 'data.mix.cutmix_alpha' above 0");
    EXPECT_EQ(error_of("{}", {one, "data.mix.prob=0.5", "data.mix.mode=element"}), "no error");
  }
}

TEST(ConfigErrors, ProgressiveSizes) {
  const std::string section = "data.train_transform.progressive.";
  const auto error = [&](const std::string& start, const std::string& epochs) {
    return error_of("{}", {section + "start_size=" + start, section + "growth_epochs=" + epochs});
  };
  EXPECT_EQ(error("128", "3"), "no error");
  EXPECT_EQ(error("0", "3"), "command line: '" + section + "growth_epochs' is set, but counts only with '" + section +
                                 "start_size' above 0; remove this key");
  EXPECT_NE(error("130", "3").find("multiple of 'model.patch_size'"), std::string::npos) << error("130", "3");
  EXPECT_NE(error("224", "3").find("must be less than 'data.train_transform.size' (224)"), std::string::npos);
  EXPECT_NE(error("128", "0").find("'start_size' is set; say in how many epochs it grows"), std::string::npos);
}

TEST(ConfigErrors, AugmentationAcrossKeys) {
  EXPECT_EQ(error_of("data: {train_transform: {erasing: {prob: 1, area: [0.5, 0.1]}}}"),
            "x.yaml:1: 'data.train_transform.erasing.area' must be in ascending order, got [0.5, 0.1]");
  EXPECT_EQ(error_of("data: {train_transform: {erasing: {prob: 1, ratio: [2, 1]}}}"),
            "x.yaml:1: 'data.train_transform.erasing.ratio' must be in ascending order, got [2.0, 1.0]");
  EXPECT_EQ(
      error_of("data: {train_transform: {three_augment: true, rand_augment: {num_ops: 2}}}"),
      "x.yaml:1: 'data.train_transform.three_augment' is true, but 'data.train_transform.rand_augment.num_ops' is "
      "2; set one of them to false or 0");
}

// A key without effect is refused, not ignored.
TEST(ConfigErrors, KeysThatCountOnlyWithAnotherValue) {
  const auto refused = [](const std::string& with, const std::string& key, const std::string& value,
                          const std::string& condition) {
    std::vector<std::string> overrides{key + "=" + value};
    if (!with.empty()) overrides.push_back(with);
    EXPECT_EQ(error_of("{}", overrides),
              "command line: '" + key + "' is set, but counts only with " + condition + "; remove this key");
  };
  refused("", "train.anomaly.window", "10", "'train.anomaly.spike_factor'");
  for (const char* other : {"", "train.anomaly.answer=none", "train.anomaly.answer=rollback"}) {
    refused(other, "train.anomaly.max_in_a_row", "3", "'train.anomaly.answer' skip");
  }
  for (const char* other : {"", "train.anomaly.answer=none", "train.anomaly.answer=skip"}) {
    refused(other, "train.anomaly.max_rollbacks", "2", "'train.anomaly.answer' rollback");
  }
  const std::string name = "'train.optimizer.name' ", policy = "'train.schedule.policy' ";
  for (const char* other : {"", "train.optimizer.name=lamb"}) {
    refused(other, "train.optimizer.momentum", "0.8", name + "sgd");
    refused(other, "train.optimizer.nesterov", "true", name + "sgd");
  }
  refused("train.optimizer.name=sgd", "train.optimizer.betas", "[0.9, 0.95]", name + "adamw or lamb");
  refused("train.optimizer.name=sgd", "train.optimizer.eps", "1e-6", name + "adamw or lamb");
  refused("", "train.schedule.step_epochs", "3", policy + "step");
  refused("train.schedule.policy=linear", "train.schedule.gamma", "0.5", policy + "step");
  refused("train.schedule.policy=step", "train.schedule.by_epoch", "true", policy + "cosine or linear");
  refused("train.schedule.policy=constant", "train.schedule.min_lr_ratio", "0.5", policy + "cosine, linear or step");
  refused("", "train.loss.bce_threshold", "0.2", "'train.loss.name' bce");
  refused("", "train.loss.bce_sum", "true", "'train.loss.name' bce");
  for (const auto& [key, value] : std::vector<std::pair<std::string, std::string>>{
           {"decay", "0.9"}, {"warmup", "true"}, {"every", "2"}, {"best_by", "raw"}}) {
    refused("", "train.ema." + key, value, "'train.ema.enabled' true");
    EXPECT_EQ(error_of("{}", {"train.ema.enabled=true", "train.ema." + key + "=" + value}), "no error");
  }
  for (const auto& [key, value] : std::vector<std::pair<std::string, std::string>>{
           {"initial", "8"}, {"growth", "3"}, {"backoff", "0.25"}, {"interval", "7"}}) {
    refused("run.dtype=bfloat16", "train.loss_scale." + key, value, "'run.dtype' float16");
    EXPECT_EQ(error_of("{}", {"run.dtype=float16", "train.loss_scale." + key + "=" + value}), "no error");
  }
  refused("run.dtype=bfloat16", "run.tf32", "true", "'run.dtype' float32");
  EXPECT_EQ(error_of("{}", {"run.tf32=true"}), "no error");
  EXPECT_EQ(error_of("train: {optimizer: {name: sgd, momentum: 0, nesterov: true}}"),
            "x.yaml:1: 'train.optimizer.nesterov' is true, but 'train.optimizer.momentum' is 0; set a momentum, or "
            "remove this key");
  EXPECT_EQ(error_of("train: {schedule: {warmup_epochs: 1, warmup_steps: 5}}"),
            "x.yaml:1: 'train.schedule.warmup_steps' and 'train.schedule.warmup_epochs' are both set; set one of them "
            "to 0");
}

}  // namespace
}  // namespace vrwkv::config

#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "config/schema.h"
#include "tests/config/temporary_config.h"

namespace vrwkv::config {
namespace {

/// Draws a value for every key, within its range.
class RandomConfig {
 public:
  explicit RandomConfig(unsigned seed) : random_(seed) {}

  RunConfig draw() {
    Document document;
    fill(describe(document));
    RunConfig& config = document.config;
    // What the rules across keys ask for.
    config.name = std::string(1, 'x');
    VrwkvOptions& model = config.model.backbone;
    model.in_channels = 3;
    model.patch_size = whole(1, 64);
    model.img_size = model.patch_size * whole(1, 100);
    if (model.attention == Attention::bi_wkv6) {
      model.embed_dims = 64 * whole(1, 1000);
      if (model.wkv == WkvFormula::published) model.wkv = WkvFormula::paper;
      model.init_mode = InitMode::fancy;
      model.linear_init = LinearInit::trunc_normal;
    }
    config.data.train_transform.size = model.patch_size * whole(1, 100);
    config.data.eval_transform.size = model.patch_size * whole(1, 100);
    std::ranges::sort(config.data.train_transform.scale);
    std::ranges::sort(config.data.train_transform.ratio);
    for (data::DatasetOptions* dataset : {&config.data.train, &config.data.val}) {
      dataset->synthetic.classes = whole(1, config.model.num_classes);
    }
    config.train.grad_accumulation = whole(1, 1000);
    config.train.batch_size = config.train.grad_accumulation * whole(1, 1000);
    auto& progressive = config.data.train_transform.progressive;
    progressive = {};
    if (config.data.train_transform.size > model.patch_size && whole(0, 1) == 1) {
      progressive = {.start_size = model.patch_size, .epochs = whole(1, 100)};
    }
    config.train.micro_batch_size = config.train.grad_accumulation == 1 ? config.train.batch_size : 0;
    config.train.schedule.warmup_epochs = static_cast<double>(config.train.epochs) * real(0, 1);
    leave_out_the_other_task(config);
    leave_out_what_does_not_count(config);
    leave_out_augmentation_that_does_not_count(config.data);
    for (data::DatasetOptions* dataset : {&config.data.train, &config.data.val}) {
      const bool lists =
          dataset->format == data::DatasetFormat::list || dataset->format == data::DatasetFormat::automatic;
      if (!lists) dataset->list.clear();
      if (dataset->format == data::DatasetFormat::list) dataset->list += 'x';
      const bool is_list_or_made =
          dataset->format == data::DatasetFormat::list || dataset->format == data::DatasetFormat::synthetic;
      if (is_list_or_made || dataset->index_cache.empty()) dataset->index_cache = "auto";
      if (is_list_or_made || dataset->format == data::DatasetFormat::folder || dataset->ground_truth.empty() ||
          dataset->synsets.empty()) {
        dataset->ground_truth.clear();
        dataset->synsets.clear();
      }
    }
    return config;
  }

 private:
  void leave_out_the_other_task(RunConfig& config) {
    if (config.task == TaskName::classification) {
      config.mae = {};
      config.pictures = {};
      return;
    }
    // Of the least size, four patches, half of them are visible.
    VrwkvOptions& model = config.model.backbone;
    const int64_t least = 2 * model.patch_size;
    model.embed_dims = (model.embed_dims + 63) / 64 * 64;
    model.img_size = std::max(model.img_size, least);
    config.data.train_transform.size = std::max(config.data.train_transform.size, least);
    config.data.eval_transform.size = std::max(config.data.eval_transform.size, least);
    config.data.train_transform.progressive = {};
    config.mae.mask_ratio = real(0.3, 0.7);
    config.mae.decoder_embed_dims = 64 * whole(1, 1000);
    config.data.mix = {};
    config.model.head = HeadKind::linear;
    config.model.num_classes = ClassifierOptions().num_classes;
    config.train.label_smoothing = TrainOptions().label_smoothing;
    config.train.loss = {};
  }

  static void leave_out_what_does_not_count(RunConfig& config) {
    TrainOptions& train = config.train;
    const TrainOptions usual;
    if (train.optimizer.name == OptimizerName::sgd) {
      train.optimizer.betas = usual.optimizer.betas;
      train.optimizer.eps = usual.optimizer.eps;
      train.optimizer.nesterov = train.optimizer.nesterov && train.optimizer.momentum > 0;
    } else {
      train.optimizer.momentum = usual.optimizer.momentum;
      train.optimizer.nesterov = false;
    }
    const SchedulePolicy policy = train.schedule.policy;
    if (policy != SchedulePolicy::step) {
      train.schedule.step_epochs = usual.schedule.step_epochs;
      train.schedule.gamma = usual.schedule.gamma;
    }
    if (policy == SchedulePolicy::step || policy == SchedulePolicy::constant) train.schedule.by_epoch = false;
    if (policy == SchedulePolicy::constant) train.schedule.min_lr_ratio = usual.schedule.min_lr_ratio;
    if (train.schedule.warmup_epochs > 0) train.schedule.warmup_steps = 0;
    if (train.loss.name != LossName::bce) train.loss = usual.loss;
    if (!train.ema.enabled) train.ema = usual.ema;
    if (!train.anomaly.spike_factor) train.anomaly.window = usual.anomaly.window;
    if (train.anomaly.answer != AnomalyAnswer::skip) train.anomaly.max_in_a_row = usual.anomaly.max_in_a_row;
    if (train.anomaly.answer != AnomalyAnswer::rollback) train.anomaly.max_rollbacks = usual.anomaly.max_rollbacks;
    if (config.run.dtype != Dtype::float32) config.run.tf32 = false;
    if (config.run.dtype != Dtype::float16) train.loss_scale = usual.loss_scale;
  }

  static void leave_out_augmentation_that_does_not_count(data::DataOptions& data) {
    if (data.decode == data::DecodeDevice::cpu) data.gpu_share = data::DataOptions().gpu_share;
    data::TrainTransformOptions& transform = data.train_transform;
    std::ranges::sort(transform.erasing.area);
    std::ranges::sort(transform.erasing.ratio);
    if (transform.erasing.prob == 0) transform.erasing = {};
    if (transform.three_augment) transform.rand_augment.num_ops = 0;
    if (transform.rand_augment.num_ops == 0) transform.rand_augment = {};
    if (!data.mix.enabled()) data.mix = {};
    if (data.mix.mixup_alpha == 0 || data.mix.cutmix_alpha == 0) data.mix.switch_prob = data::MixOptions().switch_prob;
  }

  int64_t whole(int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(random_); }
  double real(double low, double high) { return std::uniform_real_distribution<double>(low, high)(random_); }

  double number(const Range& range) {
    const double low = std::isfinite(range.low) ? range.low : -1e3;
    if (std::isfinite(range.high)) {
      if (!range.low_open && whole(0, 9) == 0) return low;
      if (!range.high_open && whole(0, 9) == 0) return range.high;
      return std::nextafter(real(low, range.high),
                            range.low_open ? range.high : range.low + (range.high - range.low) / 2);
    }
    return low + std::pow(10.0, real(-12, 12));
  }

  std::string text() {
    static const std::vector<std::string> kAwkward = {"",
                                                      "true",
                                                      "null",
                                                      "~",
                                                      "~x",
                                                      "12",
                                                      "1e3",
                                                      "-",
                                                      "- a",
                                                      "a: b",
                                                      "a #b",
                                                      "#a",
                                                      " a ",
                                                      "'",
                                                      "\"",
                                                      "\\",
                                                      "{a}",
                                                      "[a]",
                                                      "*a",
                                                      "&a",
                                                      "!a",
                                                      "%a",
                                                      "|",
                                                      ">",
                                                      "?",
                                                      "? a",
                                                      ":",
                                                      "a:",
                                                      "@a",
                                                      "`a`",
                                                      "$",
                                                      "$$",
                                                      "${A}",
                                                      "a,b",
                                                      "---",
                                                      "...",
                                                      "\xC3\xA9",
                                                      "=",
                                                      "<<",
                                                      "0x1F",
                                                      "yes",
                                                      "a\\nb",
                                                      "\xF0\x9F\x98\x80",
                                                      "\xE2\x80\xA8",
                                                      "\xC2\x85",
                                                      "\xC2\xA0",
                                                      "\xEF\xBB\xBF",
                                                      "-.5",
                                                      ".inf",
                                                      "a'b\"c",
                                                      "key: [1, {"};
    std::string result = kAwkward[static_cast<std::size_t>(whole(0, static_cast<int64_t>(kAwkward.size()) - 1))];
    const int64_t more = whole(0, 2) == 0 ? whole(1, 40) : 0;
    for (int64_t i = 0; i < more; ++i) result += static_cast<char>(whole(0x20, 0x7E));
    // Loading never returns these: they are expanded.
    if (result == "~" || result.starts_with("~/")) result.insert(0, 1, 'a');
    return result;
  }

  void fill(const Section& section) {
    for (const Field& field : section.fields) {
      std::visit(Overloaded{
                     [&](int64_t* value) {
                       const double high = std::min(field.range.high, 2147483647.0);
                       *value = whole(static_cast<int64_t>(field.range.low), static_cast<int64_t>(high));
                     },
                     [&](double* value) { *value = number(field.range); },
                     [&](std::optional<double>* value) {
                       value->reset();
                       if (whole(0, 1) == 1) *value = number(field.range);
                     },
                     [&](std::span<double> values) {
                       for (double& value : values) value = number(field.range);
                     },
                     [&](bool* value) { *value = whole(0, 1) == 1; },
                     [&](const PathText& path) { *path.value = text(); },
                     [&](const TextList& list) {
                       list.values->clear();
                       for (int64_t left = whole(0, 3); left > 0; --left) list.values->push_back(text());
                     },
                     [&](const DeviceText& device) {
                       *device.value = std::string("cuda:").append(std::to_string(whole(0, 99)));
                     },
                     [&](const Choice& choice) {
                       choice.set(static_cast<std::size_t>(whole(0, static_cast<int64_t>(choice.names.size()) - 1)));
                     },
                 },
                 field.target);
    }
    for (const Section& inner : section.sections) fill(inner);
  }

  std::mt19937_64 random_;
};

TEST(ToYaml, IsReadBackExactlyForRandomConfigurations) {
  const TemporaryConfigs configs;
  RandomConfig random(11);
  for (int i = 0; i < 500; ++i) {
    const RunConfig config = random.draw();
    const std::string yaml = to_yaml(config);
    configs.write("x.yaml", yaml);
    ASSERT_EQ(configs.error("x.yaml"), "no error") << yaml;
    ASSERT_EQ(configs.load("x.yaml"), config) << yaml;
  }
}

TEST(ToYaml, KeepsAVariantAndItsRemovals) {
  const TemporaryConfigs configs;
  configs.write("x.yaml", "model: {variant: large, init_values: null}\ntrain: {optimizer: {lr: 1e-5}}");
  const RunConfig config = configs.load("x.yaml");
  configs.write("x.yaml", to_yaml(config));
  EXPECT_EQ(configs.load("x.yaml"), config);
  EXPECT_EQ(config.model.backbone.init_values, std::nullopt);
}

TEST(ToYaml, IsReadable) {
  RunConfig config;
  config.data.train.path = "2012";
  config.model.backbone.init_values = 1e-5;
  const std::string yaml = to_yaml(config);
  for (const char* line :
       {"model:\n  variant: none\n  img_size: 224\n", "\n  init_values: 1e-05\n", "\n  post_norm: false\n",
        "\n  train:\n    path: \"2012\"\n    format: auto\n    list: \"\"\n", "\n    mean: [123.675, 116.28, 103.53]\n",
        "\n    lr: 0.001\n", "\n  clip_grad_norm: 5.0\n", "\n  device: auto\n  dtype: float32\n"}) {
    EXPECT_NE(yaml.find(line), std::string::npos) << line << "\nnot in\n" << yaml;
  }
}

}  // namespace
}  // namespace vrwkv::config

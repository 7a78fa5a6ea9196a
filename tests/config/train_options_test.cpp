#include <gtest/gtest.h>

#include "tests/config/temporary_config.h"

namespace vrwkv::config {
namespace {

// As in run_config_test: each key with a value that differs from its default, compared member by member.
TEST(TrainOptions, EveryKeyOfTheOptimisationReachesItsMember) {
  const RunConfig config = load_text(R"(
train:
  optimizer: {name: sgd, lr: 0.3, weight_decay: 0.2, momentum: 0.8, nesterov: true, decay_rule: layer_wise,
              layer_decay: 0.7}
  schedule: {policy: step, step_epochs: 3, gamma: 0.4, warmup_steps: 5, warmup_epochs: 0, warmup_ratio: 0.6,
             min_lr_ratio: 0.05}
  loss: {name: bce, bce_threshold: 0.25, bce_sum: true}
  ema: {enabled: true, decay: 0.99, warmup: true, every: 7, best_by: raw}
  loss_scale: {initial: 8, growth: 3, backoff: 0.25, interval: 9}
  freeze: [a, "b.*"]
  batch_size: 60
  micro_batch_size: 20
  distributed: {timeout: 33, gradients: bfloat16, bucket_mb: 7}
  logs: {csv: false, tensorboard: false}
  anomaly: {answer: skip, spike_factor: 12.5, window: 11, max_in_a_row: 4}
run: {dtype: float16}
)");
  const OptimizerOptions optimizer{.name = OptimizerName::sgd,
                                   .lr = 0.3,
                                   .weight_decay = 0.2,
                                   .momentum = 0.8,
                                   .nesterov = true,
                                   .decay_rule = DecayRule::layer_wise,
                                   .layer_decay = 0.7};
  EXPECT_EQ(config.train.optimizer, optimizer);
  const ScheduleOptions schedule{.policy = SchedulePolicy::step,
                                 .step_epochs = 3,
                                 .gamma = 0.4,
                                 .warmup_steps = 5,
                                 .warmup_epochs = 0,
                                 .warmup_ratio = 0.6,
                                 .min_lr_ratio = 0.05};
  EXPECT_EQ(config.train.schedule, schedule);
  EXPECT_EQ(config.train.loss, (LossOptions{.name = LossName::bce, .bce_threshold = 0.25, .bce_sum = true}));
  EXPECT_EQ(config.train.ema,
            (EmaOptions{.enabled = true, .decay = 0.99, .warmup = true, .every = 7, .best_by = WeightSet::raw}));
  EXPECT_EQ(config.train.loss_scale, (LossScaleOptions{.initial = 8, .growth = 3, .backoff = 0.25, .interval = 9}));
  EXPECT_EQ(config.train.logs, (LogOptions{.csv = false, .tensorboard = false}));
  EXPECT_EQ(config.train.anomaly,
            (AnomalyOptions{.answer = AnomalyAnswer::skip, .spike_factor = 12.5, .window = 11, .max_in_a_row = 4}));
  EXPECT_EQ(config.train.freeze, (std::vector<std::string>{"a", "b.*"}));
  EXPECT_EQ(config.train.micro_batch_size, 20);
  const distributed::Options distributed{
      .timeout = 33, .gradients = distributed::GradientDtype::bfloat16, .bucket_mb = 7};
  EXPECT_EQ(config.train.distributed, distributed);
  EXPECT_EQ(config.run.dtype, Dtype::float16);
}

TEST(TrainOptions, ProgressiveSizesReachTheirMembers) {
  const RunConfig config = load_text("data: {train_transform: {progressive: {start_size: 96, growth_epochs: 7}}}");
  EXPECT_EQ(config.data.train_transform.progressive, (data::ProgressiveOptions{.start_size = 96, .epochs = 7}));
}

TEST(TrainOptions, EveryNameGivesItsEnumerator) {
  const auto train = [](const std::string& text) { return load_text("train: {" + text + "}").train; };
  EXPECT_EQ(train("optimizer: {name: adamw}").optimizer.name, OptimizerName::adamw);
  EXPECT_EQ(train("optimizer: {name: lamb}").optimizer.name, OptimizerName::lamb);
  EXPECT_EQ(train("optimizer: {decay_rule: norm_bias}").optimizer.decay_rule, DecayRule::norm_bias);
  EXPECT_EQ(train("schedule: {policy: cosine}").schedule.policy, SchedulePolicy::cosine);
  EXPECT_EQ(train("schedule: {policy: linear}").schedule.policy, SchedulePolicy::linear);
  EXPECT_EQ(train("schedule: {policy: constant}").schedule.policy, SchedulePolicy::constant);
  EXPECT_TRUE(train("schedule: {by_epoch: true}").schedule.by_epoch);
  EXPECT_EQ(train("loss: {name: cross_entropy}").loss.name, LossName::cross_entropy);
  EXPECT_EQ(train("ema: {enabled: true, best_by: ema}").ema.best_by, WeightSet::ema);
  EXPECT_EQ(train("anomaly: {answer: none}").anomaly.answer, AnomalyAnswer::none);
  EXPECT_EQ(train("anomaly: {answer: stop}").anomaly.answer, AnomalyAnswer::stop);
  EXPECT_EQ(train("anomaly: {answer: rollback, max_rollbacks: 7}").anomaly,
            (AnomalyOptions{.answer = AnomalyAnswer::rollback, .max_rollbacks = 7}));
  EXPECT_TRUE(load_text("run: {tf32: true}").run.tf32);
}

}  // namespace
}  // namespace vrwkv::config

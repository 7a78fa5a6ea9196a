#include "config/schema_sections.h"

namespace vrwkv::config {
namespace {

Section optimizer_section(OptimizerOptions& optimizer) {
  return {
      .name = "optimizer",
      .about = "How weights are updated.",
      .fields =
          {
              {"name", choice(optimizer.name, {"adamw", "lamb", "sgd"}), Range::any(), "The algorithm."},
              {"lr", &optimizer.lr, Range::above(0), "Highest learning rate, for the whole batch size."},
              {"weight_decay", &optimizer.weight_decay, Range::at_least(0),
               "Weight decay; decoupled with adamw, part of the adapted update with lamb, of the gradient with sgd."},
              {"betas", std::span<double>(optimizer.betas), Range::share(),
               "adamw, lamb: decay of the two running averages."},
              {"eps", &optimizer.eps, Range::above(0), "adamw, lamb: added to the denominator."},
              {"momentum", &optimizer.momentum, Range::share(), "sgd: decay of the summed gradients."},
              {"nesterov", &optimizer.nesterov, Range::any(), "sgd: look one step of the momentum ahead."},
              {"decay_rule", choice(optimizer.decay_rule, {"norm_bias", "layer_wise"}), Range::any(),
               "What is not decayed; `norm_bias`: norm layers and biases; `layer_wise`: whatever has one dimension, "
               "except spatial_decay and spatial_first."},
              {"layer_decay", &optimizer.layer_decay, Range::positive_share(),
               "Factor on the learning rate from each layer to the one before it; 1: none."},
          },
      .sections = {},
  };
}

Section schedule_section(ScheduleOptions& schedule) {
  return {
      .name = "schedule",
      .about = "Learning rate: a decay from the first iteration on, times a linear warm-up; see docs/training.md.",
      .fields =
          {
              {"policy", choice(schedule.policy, {"cosine", "linear", "step", "constant"}), Range::any(),
               "Form of the decay."},
              {"by_epoch", &schedule.by_epoch, Range::any(),
               "The decay changes at each epoch's start only; else at each iteration. Not for constant; step always "
               "does."},
              {"step_epochs", &schedule.step_epochs, Range::at_least(1), "step: epochs between decays."},
              {"gamma", &schedule.gamma, Range::positive_share(), "step: factor of each decay."},
              {"warmup_steps", &schedule.warmup_steps, Range::at_least(0),
               "Length of the warm-up in iterations, in place of `warmup_epochs`; 0: not used."},
              {"warmup_epochs", &schedule.warmup_epochs, Range::at_least(0),
               "Length of the warm-up, may be a fraction; at most `train.epochs`."},
              {"warmup_ratio", &schedule.warmup_ratio, Range::between(0, 1),
               "Share of the learning rate at the first iteration."},
              {"min_lr_ratio", &schedule.min_lr_ratio, Range::between(0, 1),
               "Share of the learning rate at the end; least share with step; not for constant."},
          },
      .sections = {},
  };
}

Section loss_section(LossOptions& loss) {
  return {
      .name = "loss",
      .about = "What is minimised; `train.label_smoothing` applies to every loss.",
      .fields =
          {
              {"name", choice(loss.name, {"cross_entropy", "bce"}), Range::any(),
               "Softmax cross-entropy, or binary cross-entropy of each class on its own."},
              {"bce_threshold", &loss.bce_threshold, Range::share(),
               "bce: smoothed targets above it become 1, all others 0; null: as they are."},
              {"bce_sum", &loss.bce_sum, Range::any(), "bce: sum over the classes; false: mean."},
          },
      .sections = {},
  };
}

Section ema_section(EmaOptions& ema) {
  return {
      .name = "ema",
      .about = "An exponential moving average of the weights, evaluated (metrics `ema_*`) and saved beside them.",
      .fields =
          {
              {"enabled", &ema.enabled, Range::any(), "Keep the average; the other keys of the section need it."},
              {"decay", &ema.decay, Range::share(), "Share of the old average that an update keeps."},
              {"warmup", &ema.warmup, Range::any(),
               "Decay at most (1 + n) / (10 + n) at update n = 0, 1, ..., so that the start is soon forgotten."},
              {"every", &ema.every, Range::at_least(1), "Optimizer steps between updates."},
              {"best_by", choice(ema.best_by, {"raw", "ema"}), Range::any(),
               "Whose score decides which checkpoint is `best`."},
          },
      .sections = {},
  };
}

Section loss_scale_section(LossScaleOptions& scale) {
  return {
      .name = "loss_scale",
      .about = "Dynamic loss scaling, for `run.dtype: float16` only.",
      .fields =
          {
              {"initial", &scale.initial, Range::above(0), "Factor on the loss at the start."},
              {"growth", &scale.growth, Range::at_least(1),
               "Factor on the scale after `interval` good steps in a row."},
              {"backoff", &scale.backoff, Range::positive_share(),
               "Factor on the scale after a step whose gradient is not finite."},
              {"interval", &scale.interval, Range::at_least(1), "Good steps in a row before the scale grows."},
          },
      .sections = {},
  };
}

Section distributed_section(distributed::Options& options) {
  return {
      .name = "distributed",
      .about = "Several processes, one for each GPU; see docs/distributed.md. Without effect for one process.",
      .fields =
          {
              {"timeout", &options.timeout, Range::at_least(5),
               "Seconds that a process waits for the others before it names them and ends."},
              {"gradients", choice(options.gradients, {"own", "bfloat16"}), Range::any(),
               "Type in which gradients travel: their own, or rounded to bfloat16."},
              {"bucket_mb", &options.bucket_mb, Range::at_least(0),
               "MiB of gradients that are reduced together; 0: 100 where all processes are on one host, else 25."},
              {"shard_optimizer", &options.shard_optimizer, Range::any(),
               "Each process keeps the optimizer's sums of its share of the parameters (ZeRO-1), which saves memory."},
          },
      .sections = {},
  };
}

Section logs_section(LogOptions& logs) {
  return {
      .name = "logs",
      .about = "What is written beside metrics.jsonl, see monitoring.md.",
      .fields =
          {
              {"csv", &logs.csv, Range::any(), "The numbers of metrics.jsonl as train.csv and eval.csv."},
              {"tensorboard", &logs.tensorboard, Range::any(), "Event files for TensorBoard."},
          },
      .sections = {},
  };
}

Section anomaly_section(AnomalyOptions& anomaly) {
  return {
      .name = "anomaly",
      .about = "A loss or gradient norm that is not finite, or a spike, see monitoring.md.",
      .fields =
          {
              {"answer", choice(anomaly.answer, {"none", "stop", "skip", "rollback"}), Range::any(),
               "`none`: report it and go on; `stop`: end the run; `skip`: leave the update out; `rollback`: return to "
               "the last checkpoint and pass the batch over."},
              {"spike_factor", &anomaly.spike_factor, Range::above(1),
               "A value above this times its median is a spike; null: only what is not finite is an anomaly."},
              {"window", &anomaly.window, Range::at_least(1), "Steps that the median is taken of."},
              {"max_in_a_row", &anomaly.max_in_a_row, Range::at_least(1),
               "skip: so many anomalous steps in a row end the run."},
              {"max_rollbacks", &anomaly.max_rollbacks, Range::at_least(1),
               "rollback: times that one run goes back; the next anomaly ends it."},
          },
      .sections = {},
  };
}

}  // namespace

Section train_section(TrainOptions& train) {
  return {
      .name = "train",
      .about = "The training run.",
      .fields =
          {
              {"epochs", &train.epochs, Range::at_least(1), "Passes over the training images."},
              {"batch_size", &train.batch_size, Range::at_least(1),
               "Images of one optimizer step, all accumulation steps together."},
              {"grad_accumulation", &train.grad_accumulation, Range::at_least(1),
               "Parts into which each process splits its share of the batch to save memory; must divide it."},
              {"micro_batch_size", &train.micro_batch_size, Range::at_least(0),
               "In place of `grad_accumulation`: images that a process takes at once, whatever the number of "
               "processes; 0: not used."},
              {"label_smoothing", &train.label_smoothing, Range::share(),
               "Share of the target spread over all classes."},
              {"clip_grad_norm", &train.clip_grad_norm, Range::at_least(0),
               "Largest global norm of the gradient; 0: no clipping."},
              {"cuda_graph", choice(train.cuda_graph, {"auto", "on", "off"}), Range::any(),
               "Record the step as a CUDA graph: where possible, always (or an error), never."},
              {"freeze", TextList{&train.freeze}, Range::any(),
               "Parameters that are not trained: names, in which `*`, `?` and `[ab]` stand for other letters."},
              {"eval_every", &train.eval_every, Range::at_least(1),
               "Epochs between evaluations; the last epoch is always evaluated."},
              {"checkpoint_every", &train.checkpoint_every, Range::at_least(1),
               "Epochs between `last` checkpoints; the last epoch is always saved."},
              {"checkpoint_every_steps", &train.checkpoint_every_steps, Range::at_least(0),
               "Also save after this many steps; 0: never."},
              {"keep_checkpoints", &train.keep_checkpoints, Range::at_least(0),
               "Epoch checkpoints kept beside `last` and `best`; 0: none."},
              {"log_every", &train.log_every, Range::at_least(1), "Steps between lines of metrics.jsonl."},
          },
      .sections = {optimizer_section(train.optimizer), schedule_section(train.schedule), loss_section(train.loss),
                   ema_section(train.ema), loss_scale_section(train.loss_scale), logs_section(train.logs),
                   anomaly_section(train.anomaly), distributed_section(train.distributed)},
  };
}

}  // namespace vrwkv::config

#include "config/schema.h"

namespace vrwkv::config {

namespace {

Section model_section(Document& document) {
  ClassifierOptions& classifier = document.config.model;
  InitOptions& init = document.config.init;
  VrwkvOptions& model = classifier.backbone;
  return {
      .name = "model",
      .about = "The network. `variant` gives the starting values of this section; the other keys override it.",
      .fields =
          {
              {"variant", choice(document.variant, variant_names()), Range::any(),
               "Named model to start from; `none` starts from the defaults below."},
              {"img_size", &model.img_size, Range::at_least(1),
               "Side in pixels of the square input that the position embedding is made for; a multiple of "
               "`patch_size`."},
              {"patch_size", &model.patch_size, Range::at_least(1), "Side of a patch in pixels."},
              {"in_channels", &model.in_channels, Range::at_least(1), "Channels of the input; images have 3."},
              {"embed_dims", &model.embed_dims, Range::at_least(4), "Channels of a token."},
              {"depth", &model.depth, Range::at_least(1), "Number of blocks."},
              {"hidden_rate", &model.hidden_rate, Range::at_least(1),
               "Hidden channels of the channel mix, as a multiple of `embed_dims`."},
              {"attention", choice(model.attention, {"bi_wkv", "bi_wkv6"}), Range::any(),
               "Attention of the blocks: VRWKV's, or VRWKV6's (on the CPU alone), in heads of 64 channels."},
              {"post_norm", &model.post_norm, Range::any(), "Normalise each mix's output instead of its input."},
              {"init_values", &model.init_values, Range::at_least(0),
               "Start of the layer scale; null: no layer scale."},
              {"key_norm", &model.key_norm, Range::any(),
               "Layer norm after Bi-WKV and on the hidden values of the channel mix."},
              {"wkv", choice(model.wkv, {"auto", "paper", "published"}), Range::any(),
               "Formula of Bi-WKV: `paper`; `published`, that of the public kernel, which the published weights were "
               "trained with (exact, but slow); `auto`: `published` to evaluate a published .pth file, else `paper`."},
              {"drop_rate", &model.drop_rate, Range::share(), "Dropout after the position embedding."},
              {"drop_path_rate", &model.drop_path_rate, Range::share(),
               "Stochastic depth of the last block; rises linearly from 0 at the first."},
              {"init_mode", choice(model.init_mode, {"fancy", "local", "global"}), Range::any(),
               "Start of the decay, first and mix parameters; `fancy` is the published one."},
              {"linear_init", choice(model.linear_init, {"trunc_normal", "zero_orthogonal"}), Range::any(),
               "Start of the linear weights; `zero_orthogonal` is the large model's."},
              {"with_cp", &model.with_cp, Range::any(),
               "Activation checkpointing: less memory, each block is computed twice."},
              {"num_classes", &classifier.num_classes, Range::at_least(1), "Classes of the head."},
              {"head", choice(classifier.head, {"linear", "mlp_tanh"}), Range::any(),
               "`linear`, or the large model's `mlp_tanh` (linear, tanh, linear)."},
              {"init_from", PathText{&init.from}, Range::any(),
               "Weights that a new run starts from: a checkpoint of ours, a .safetensors or a .pth file, see "
               "finetuning.md; "
               "`--resume` wins over it."},
              {"init_weights", choice(init.weights, {"raw", "ema"}), Range::any(),
               "Which weights of that file: the trained ones, or their moving average (`ema.*`)."},
          },
      .sections = {},
  };
}

Section synthetic_section(data::SyntheticOptions& synthetic) {
  return {
      .name = "synthetic",
      .about = "For `format: synthetic`: images made from numbers, the same in every run.",
      .fields =
          {
              {"images", &synthetic.images, Range::at_least(1), "How many; image i is of class i modulo `classes`."},
              {"classes", &synthetic.classes, Range::at_least(1),
               "Classes, each with a pattern of its own; at most `model.num_classes`."},
              {"size", &synthetic.size, Range::at_least(1), "Height and width in pixels."},
              {"seed", &synthetic.seed, Range::at_least(0), "Another one gives other images of the same classes."},
          },
      .sections = {},
  };
}

Section dataset_section(const std::string& name, const std::string& about, data::DatasetOptions& dataset) {
  return {
      .name = name,
      .about = about,
      .fields =
          {
              {"path", PathText{&dataset.path}, Range::any(), "A folder of images, or a tar file."},
              {"format", choice(dataset.format, {"auto", "folder", "list", "tar", "synthetic"}), Range::any(),
               "`folder`: a folder per class; `list`: images named by `list`; `tar`: a tar file of images; "
               "`synthetic`: images made as `synthetic` says, `path` is not read; `auto`: by what `path` is, and "
               "`list` when that is set."},
              {"list", PathText{&dataset.list}, Range::any(),
               "For `list`: a text file of `relative/path label` lines; paths are relative to `path`."},
          },
      .sections = {synthetic_section(dataset.synthetic)},
  };
}

Section progressive_section(data::ProgressiveOptions& options) {
  return {
      .name = "progressive",
      .about =
          "Smaller samples at first, which cost less: the side grows linearly, in multiples of `model.patch_size`.",
      .fields =
          {
              {"start_size", &options.start_size, Range::at_least(0),
               "Side in pixels of the first epoch's samples; 0: `size` throughout."},
              {"growth_epochs", &options.epochs, Range::at_least(0),
               "Epochs before the first one with samples of `size`."},
          },
      .sections = {},
  };
}

Section rand_augment_section(data::RandAugmentOptions& options) {
  return {
      .name = "rand_augment",
      .about = "RandAugment: operations drawn from a list of 15. docs/augmentation.md has the list.",
      .fields =
          {
              {"num_ops", &options.num_ops, Range::between(0, 15), "Operations drawn for each image; 0: off."},
              {"magnitude", &options.magnitude, Range::between(0, 10), "Mean strength of an operation."},
              {"magnitude_std", &options.magnitude_std, Range::at_least(0),
               "Standard deviation of the strength, which is limited to 0 to 10."},
              {"prob", &options.prob, Range::between(0, 1), "Probability that a drawn operation is applied."},
              {"increasing", &options.increasing, Range::any(),
               "Every operation is stronger at a higher magnitude; false: posterize, solarize and the colour factors "
               "run over their ranges."},
          },
      .sections = {},
  };
}

Section erasing_section(data::ErasingOptions& options) {
  return {
      .name = "erasing",
      .about = "Random erasing of rectangles, after normalisation.",
      .fields =
          {
              {"prob", &options.prob, Range::between(0, 1), "Probability that an image is erased; 0: off."},
              {"fill", choice(options.fill, {"noise", "zero"}), Range::any(),
               "`noise`: standard normal noise, in normalised units; `zero`: the mean colour."},
              {"area", std::span<double>(options.area), Range::positive_share(),
               "Least and most share of the image's area, all rectangles together."},
              {"ratio", std::span<double>(options.ratio), Range::above(0), "Least and most height over width."},
              {"max_count", &options.max_count, Range::between(1, 64), "An erased image has 1 to so many rectangles."},
          },
      .sections = {},
  };
}

Section mix_section(data::MixOptions& mix) {
  return {
      .name = "mix",
      .about = "Mixup and CutMix of the images of a training batch (of each accumulation step), and of their labels.",
      .fields =
          {
              {"mixup_alpha", &mix.mixup_alpha, Range::at_least(0),
               "Mixup with a weight from Beta(alpha, alpha); 0: off."},
              {"cutmix_alpha", &mix.cutmix_alpha, Range::at_least(0),
               "CutMix with a share from Beta(alpha, alpha); 0: off."},
              {"prob", &mix.prob, Range::between(0, 1), "Probability of mixing at all."},
              {"switch_prob", &mix.switch_prob, Range::between(0, 1), "Probability of CutMix where both are on."},
              {"mode", choice(mix.mode, {"batch", "element"}), Range::any(),
               "What is drawn once: `batch`: for all images of a batch; `element`: for each image."},
          },
      .sections = {},
  };
}

Section train_transform_section(data::TrainTransformOptions& transform) {
  return {
      .name = "train_transform",
      .about = "From a decoded image to a training sample.",
      .fields =
          {
              {"size", &transform.size, Range::at_least(1),
               "Side of the result in pixels; a multiple of `patch_size`."},
              {"crop", choice(transform.crop, {"random_resized", "pad", "resize"}), Range::any(),
               "`random_resized`: a random part of the image, resized; `pad`: resized if it has another size, padded "
               "with "
               "zeros, then a random crop; `resize`: resized only."},
              {"scale", std::span<double>(transform.scale), Range::positive_share(),
               "random_resized: least and most share of the image's area."},
              {"ratio", std::span<double>(transform.ratio), Range::above(0),
               "random_resized: least and most width over height."},
              {"padding", &transform.padding, Range::at_least(0), "pad: pixels added on each side."},
              {"hflip", &transform.hflip, Range::between(0, 1), "Probability of a horizontal flip."},
              {"three_augment", &transform.three_augment, Range::any(),
               "3-Augment of DeiT III: grey, solarized or blurred; not together with `rand_augment`."},
              {"color_jitter", &transform.color_jitter, Range::between(0, 1),
               "Brightness, contrast and saturation change by factors within 1 +- this; 0: off."},
          },
      .sections = {progressive_section(transform.progressive), rand_augment_section(transform.rand_augment),
                   erasing_section(transform.erasing)},
  };
}

Section eval_transform_section(data::EvalTransformOptions& transform) {
  return {
      .name = "eval_transform",
      .about = "From a decoded image to an evaluation sample.",
      .fields =
          {
              {"resize", &transform.resize, Range::at_least(1), "Short side in pixels after the resize."},
              {"size", &transform.size, Range::at_least(1),
               "Side of the centre crop in pixels; a multiple of `patch_size`. A smaller image is padded with zeros."},
          },
      .sections = {},
  };
}

Section normalize_section(data::NormalizeOptions& normalize) {
  return {
      .name = "normalize",
      .about = "Per channel (red, green, blue): (value - mean) / std, in grey levels from 0 to 255.",
      .fields =
          {
              {"mean", std::span<double>(normalize.mean), Range::between(0, 255), "Mean of each channel."},
              {"std", std::span<double>(normalize.std), Range::above(0), "Standard deviation of each channel."},
          },
      .sections = {},
  };
}

Section data_section(data::DataOptions& data) {
  return {
      .name = "data",
      .about = "Images, what is done to them, and the loader.",
      .fields =
          {
              {"workers", &data.workers, Range::at_least(0), "Loader threads; 0: one per core."},
              {"repeats", &data.repeats, Range::between(1, 64),
               "Repeated augmentation: so many different views of an image in an epoch, one after the other; the epoch "
               "keeps its length and has accordingly fewer images. 1: off."},
              {"prefetch_batches", &data.prefetch_batches, Range::at_least(1), "Batches prepared ahead."},
              {"max_corrupt_share", &data.max_corrupt_share, Range::between(0, 1),
               "Training stops when more of an epoch's images than this share are unreadable."},
          },
      .sections =
          {
              dataset_section("train", "Training images.", data.train),
              dataset_section("val", "Images that evaluation measures.", data.val),
              train_transform_section(data.train_transform),
              eval_transform_section(data.eval_transform),
              normalize_section(data.normalize),
              mix_section(data.mix),
          },
  };
}

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
              {"bucket_mb", &options.bucket_mb, Range::at_least(1), "MiB of gradients that are reduced together."},
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

Section eval_section(EvalOptions& eval) {
  return {
      .name = "eval",
      .about = "Evaluation, during training and on its own.",
      .fields = {{"batch_size", &eval.batch_size, Range::at_least(1), "Images evaluated at once."}},
      .sections = {},
  };
}

Section run_section(RunOptions& run) {
  return {
      .name = "run",
      .about = "Where and how it runs.",
      .fields =
          {
              {"output_dir", PathText{&run.output_dir}, Range::any(),
               "Folder of checkpoints and logs; `{name}` becomes the configuration's file name without its ending."},
              {"device", DeviceText{&run.device}, Range::any(), "`auto`: the first GPU if there is one, else the CPU."},
              {"dtype", choice(run.dtype, {"float64", "float32", "bfloat16", "float16"}), Range::any(),
               "Precision of the computation; `bfloat16` and `float16` keep float32 weights and compute under "
               "autocast."},
              {"tf32", &run.tf32, Range::any(),
               "float32 only: matrix products on CUDA may round their factors to TF32 (10 bits of mantissa)."},
              {"seed", &run.seed, Range::at_least(0), "Start of all random numbers."},
              {"threads", &run.threads, Range::at_least(0), "CPU threads of LibTorch; 0: LibTorch's default."},
          },
      .sections = {},
  };
}

}  // namespace

std::vector<std::string> variant_names() {
  return {"none", "tiny", "small", "base", "large", "vrwkv6_tiny", "vrwkv6_small", "vrwkv6_base"};
}

Section describe(Document& document) {
  return {
      .name = "",
      .about = "",
      .fields = {},
      .sections =
          {
              model_section(document),
              data_section(document.config.data),
              train_section(document.config.train),
              eval_section(document.config.eval),
              run_section(document.config.run),
          },
  };
}

}  // namespace vrwkv::config

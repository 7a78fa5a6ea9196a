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
          },
      .sections = {},
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
          },
  };
}

Section optimizer_section(OptimizerOptions& optimizer) {
  return {
      .name = "optimizer",
      .about = "How weights are updated.",
      .fields =
          {
              {"name", choice(optimizer.name, {"adamw"}), Range::any(), "The algorithm."},
              {"lr", &optimizer.lr, Range::above(0), "Highest learning rate, for the whole batch size."},
              {"weight_decay", &optimizer.weight_decay, Range::at_least(0), "Decoupled weight decay."},
              {"betas", std::span<double>(optimizer.betas), Range::share(), "Decay of the two running averages."},
              {"eps", &optimizer.eps, Range::above(0), "Added to the denominator."},
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
      .about = "Learning rate by iteration: a cosine from the first iteration on, times a linear warm-up.",
      .fields =
          {
              {"warmup_epochs", &schedule.warmup_epochs, Range::at_least(0),
               "Length of the warm-up, may be a fraction; at most `train.epochs`."},
              {"warmup_ratio", &schedule.warmup_ratio, Range::between(0, 1),
               "Share of the learning rate at the first iteration."},
              {"min_lr_ratio", &schedule.min_lr_ratio, Range::between(0, 1), "Share of the learning rate at the end."},
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
               "Parts into which each batch is split to save memory; must divide `batch_size`."},
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
      .sections = {optimizer_section(train.optimizer), schedule_section(train.schedule)},
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
              {"dtype", choice(run.dtype, {"float64", "float32", "bfloat16"}), Range::any(),
               "Precision of the computation; `bfloat16` keeps float32 weights and computes under autocast."},
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

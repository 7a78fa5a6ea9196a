#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "data/options.h"
#include "distributed/options.h"
#include "vrwkv/graph_mode.h"
#include "vrwkv/mae_options.h"
#include "vrwkv/options.h"

namespace vrwkv::config {

/// What is trained: a classifier, or a masked autoencoder of images without labels.
enum class TaskName { classification, mae };

/// float64 and float32 compute in that type; bfloat16 and float16 keep float32 weights and compute under autocast,
/// float16 with a loss scale.
enum class Dtype { float64, float32, bfloat16, float16 };

enum class OptimizerName { adamw, lamb, sgd };

/// `norm_bias`: norm layers and biases are not decayed, everything else is (the published rule of tiny, small and
/// base). `layer_wise`: one-dimensional parameters are not decayed, except spatial_decay and spatial_first (the
/// published rule of fine-tuning).
enum class DecayRule { norm_bias, layer_wise };

struct OptimizerOptions {
  OptimizerName name = OptimizerName::adamw;
  double lr = 1e-3;  ///< Base learning rate at the whole batch size.
  double weight_decay = 0.05;
  std::array<double, 2> betas{0.9, 0.999};  ///< adamw and lamb.
  double eps = 1e-8;                        ///< adamw and lamb.
  double momentum = 0.9;                    ///< sgd.
  bool nesterov = false;                    ///< sgd.
  DecayRule decay_rule = DecayRule::norm_bias;
  double layer_decay = 1;  ///< Factor on the learning rate from each layer to the one before it; 1: none.

  bool operator==(const OptimizerOptions&) const = default;
};

enum class SchedulePolicy { cosine, linear, step, constant };

/// A decay from iteration 0, times a linear warm-up by iteration.
struct ScheduleOptions {
  SchedulePolicy policy = SchedulePolicy::cosine;
  bool by_epoch = false;       ///< The decay stands still within an epoch.
  int64_t step_epochs = 30;    ///< step: epochs between decays.
  double gamma = 0.1;          ///< step: factor of each decay.
  int64_t warmup_steps = 0;    ///< Length in iterations; 0: as warmup_epochs says.
  double warmup_epochs = 0;    ///< May be a fraction.
  double warmup_ratio = 1e-3;  ///< Share of the learning rate at iteration 0.
  double min_lr_ratio = 0.01;  ///< Share of the learning rate at the end.

  bool operator==(const ScheduleOptions&) const = default;
};

/// Given weights that a new run starts from.
struct InitOptions {
  std::string from;  ///< A checkpoint of ours or a .safetensors file; empty: weights drawn at random.
  WeightSet weights = WeightSet::raw;

  bool operator==(const InitOptions&) const = default;
};

enum class LossName { cross_entropy, bce };

struct LossOptions {
  LossName name = LossName::cross_entropy;
  std::optional<double> bce_threshold = {};  ///< bce: targets above it count as 1, others as 0.
  bool bce_sum = false;                      ///< bce: sum over the classes, else their mean.

  bool operator==(const LossOptions&) const = default;
};

/// The moving average of the weights.
struct EmaOptions {
  bool enabled = false;
  double decay = 0.9999;
  bool warmup = false;                 ///< Decay of update n at most (1 + n) / (10 + n).
  int64_t every = 1;                   ///< Optimizer steps between updates.
  WeightSet best_by = WeightSet::ema;  ///< Whose score decides which checkpoint is `best`.

  bool operator==(const EmaOptions&) const = default;
};

/// Dynamic loss scaling of float16.
struct LossScaleOptions {
  double initial = 65536;
  double growth = 2;
  double backoff = 0.5;
  int64_t interval = 2000;  ///< Good steps before the scale grows.

  bool operator==(const LossScaleOptions&) const = default;
};

/// What is written beside metrics.jsonl.
struct LogOptions {
  bool csv = true;          ///< train.csv and eval.csv.
  bool tensorboard = true;  ///< Event files.

  bool operator==(const LogOptions&) const = default;
};

/// What the trainer does about a loss or gradient norm that is not finite, or that is a spike.
enum class AnomalyAnswer { none, stop, skip, rollback };

struct AnomalyOptions {
  AnomalyAnswer answer = AnomalyAnswer::stop;
  std::optional<double> spike_factor = {};  ///< A spike is above this times the median; nothing: no value is one.
  int64_t window = 100;                     ///< Steps that the median is taken of.
  int64_t max_in_a_row = 10;                ///< skip: anomalous steps in a row that end the run.
  int64_t max_rollbacks = 3;                ///< rollback: of one run.

  bool operator==(const AnomalyOptions&) const = default;
};

struct TrainOptions {
  int64_t epochs = 300;
  int64_t batch_size = 128;       ///< Images of one optimizer step, over all accumulation steps.
  int64_t grad_accumulation = 1;  ///< Parts into which each process splits its share of the batch.
  int64_t micro_batch_size = 0;   ///< Images that a process takes at once; 0: as grad_accumulation says.
  double label_smoothing = 0.1;
  double clip_grad_norm = 5.0;  ///< Global norm; 0: no clipping.
  GraphMode cuda_graph = GraphMode::automatic;
  OptimizerOptions optimizer;
  ScheduleOptions schedule;
  std::vector<std::string> freeze;  ///< Patterns of parameter names (`*`, `?`, `[ab]`) that are not trained.
  LossOptions loss;
  EmaOptions ema;
  LossScaleOptions loss_scale;
  LogOptions logs;
  AnomalyOptions anomaly;
  distributed::Options distributed;
  int64_t eval_every = 1;              ///< Epochs between evaluations; the last epoch is always evaluated.
  int64_t checkpoint_every = 1;        ///< Epochs between `last` checkpoints; the last epoch is always saved.
  int64_t checkpoint_every_steps = 0;  ///< Additionally after so many steps; 0: never.
  int64_t keep_checkpoints = 1;        ///< Epoch checkpoints kept beside `last` and `best`; 0: none.
  int64_t log_every = 50;              ///< Steps between lines of metrics.jsonl.

  bool operator==(const TrainOptions&) const = default;
};

struct EvalOptions {
  int64_t batch_size = 256;

  bool operator==(const EvalOptions&) const = default;
};

struct RunOptions {
  std::string output_dir = "runs/{name}";  ///< {name} is replaced by RunConfig::name when read.
  std::string device = "auto";             ///< cpu | cuda | cuda:N | auto
  Dtype dtype = Dtype::float32;
  bool tf32 = false;  ///< float32 matrix products on CUDA may round their factors to TF32.
  int64_t seed = 0;
  int64_t threads = 0;  ///< CPU threads of LibTorch; 0: LibTorch's default.

  bool operator==(const RunOptions&) const = default;
};

/// Reconstructions that task mae draws into the run folder.
struct PictureOptions {
  int64_t every = 10;  ///< Epochs between pictures; the last epoch always has one; 0: none.
  int64_t images = 8;  ///< Of data.val, in its order; a row of the picture each.

  bool operator==(const PictureOptions&) const = default;
};

/// Everything that one configuration file says.
struct RunConfig {
  std::string name;  ///< File name without its ending.
  TaskName task = TaskName::classification;
  ClassifierOptions model;
  MaeOptions mae;           ///< Task mae: with model.backbone as the encoder.
  PictureOptions pictures;  ///< The keys mae.picture_every and mae.picture_images.
  InitOptions init;         ///< The keys model.init_from and model.init_weights.
  data::DataOptions data;
  TrainOptions train;
  EvalOptions eval;
  RunOptions run;

  bool operator==(const RunConfig&) const = default;
};

/// Reads `file` and its `base:`, applies `key.path=value` overrides, checks every key, type and range.
/// Paths come back with ~, ${NAME} and {name} expanded. Throws UsageError, one line for each problem found:
/// `FILE:LINE: what is wrong, and what to do`, or `command line: …`.
RunConfig load_run_config(const std::filesystem::path& file, const std::vector<std::string>& overrides);

/// The whole configuration as YAML that load_run_config reads back to the same values.
std::string to_yaml(const RunConfig& config);

/// docs/config.md: every key with type, default, range and meaning.
std::string config_reference_markdown();

}  // namespace vrwkv::config

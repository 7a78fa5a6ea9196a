#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "data/options.h"
#include "vrwkv/graph_mode.h"
#include "vrwkv/options.h"

namespace vrwkv::config {

/// float64 and float32 compute in that type; bfloat16 keeps float32 weights and computes under autocast.
enum class Dtype { float64, float32, bfloat16 };

enum class OptimizerName { adamw };

/// `norm_bias`: norm layers and biases are not decayed, everything else is (the published rule of tiny, small and
/// base). `layer_wise`: one-dimensional parameters are not decayed, except spatial_decay and spatial_first (the
/// published rule of fine-tuning).
enum class DecayRule { norm_bias, layer_wise };

struct OptimizerOptions {
  OptimizerName name = OptimizerName::adamw;
  double lr = 1e-3;  ///< Base learning rate at the whole batch size.
  double weight_decay = 0.05;
  std::array<double, 2> betas{0.9, 0.999};
  double eps = 1e-8;
  DecayRule decay_rule = DecayRule::norm_bias;
  double layer_decay = 1;  ///< Factor on the learning rate from each layer to the one before it; 1: none.

  bool operator==(const OptimizerOptions&) const = default;
};

/// Cosine from iteration 0, times a linear warm-up; both by iteration.
struct ScheduleOptions {
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

struct TrainOptions {
  int64_t epochs = 300;
  int64_t batch_size = 128;       ///< Images of one optimizer step, over all accumulation steps.
  int64_t grad_accumulation = 1;  ///< Parts into which each batch is split; must divide batch_size.
  double label_smoothing = 0.1;
  double clip_grad_norm = 5.0;  ///< Global norm; 0: no clipping.
  GraphMode cuda_graph = GraphMode::automatic;
  OptimizerOptions optimizer;
  ScheduleOptions schedule;
  std::vector<std::string> freeze;     ///< Patterns of parameter names (`*`, `?`, `[ab]`) that are not trained.
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
  int64_t seed = 0;
  int64_t threads = 0;  ///< CPU threads of LibTorch; 0: LibTorch's default.

  bool operator==(const RunOptions&) const = default;
};

/// Everything that one configuration file says.
struct RunConfig {
  std::string name;  ///< File name without its ending.
  ClassifierOptions model;
  InitOptions init;  ///< The keys model.init_from and model.init_weights.
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

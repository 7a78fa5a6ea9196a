#pragma once

#include <chrono>
#include <filesystem>
#include <memory>
#include <optional>

#include "config/run_config.h"
#include "train/checkpoint_store.h"
#include "train/ema.h"
#include "train/loggers/metrics_log.h"
#include "train/loggers/progress.h"
#include "train/loss_scale.h"
#include "train/optimizer.h"
#include "train/task.h"
#include "train/train_state.h"
#include "train/train_step.h"
#include "vrwkv/recorded_step.h"

namespace vrwkv::train {

/// The training loop: steps, logs, evaluates, saves. What is trained is the Task's business.
///
/// The run folder receives config.yaml, metrics.jsonl, learning_curves.png and checkpoints/. All randomness of a step
/// is seeded from (seed, step), so that a resumed run continues as if it had never stopped.
class Trainer {
 public:
  /// `resume`: "auto" (the newest readable checkpoint of the run folder, if any), a checkpoint file, or nothing for a
  /// new run. Throws UsageError when the run folder holds a run and a new one is asked for, or when the checkpoint was
  /// made with another number of steps per epoch; std::runtime_error when it is damaged or does not fit.
  Trainer(const config::RunConfig& config, Task& task, const std::optional<std::string>& resume);

  /// Trains to the last epoch, or until SIGINT or SIGTERM, which saves `last` and returns after the present step.
  void run();

 private:
  void train_epoch();
  void finish_epoch(int64_t done);
  void step();
  void log_step(double lr);
  bool evaluate();  ///< True for the best score so far.
  Evaluation evaluate_weights();
  Trained trained();
  Checkpoint checkpoint();
  void save();
  void resume_from(const std::string& request);
  void start_window();
  bool due(int64_t every) const;

  config::RunConfig config_;
  Task& task_;
  std::filesystem::path folder_;
  int64_t steps_per_epoch_;
  std::unique_ptr<Optimizer> optimizer_;
  std::optional<Ema> ema_;
  std::optional<LossScale> loss_scale_;  ///< Of float16.
  torch::Tensor skip_above_;             ///< As train_step takes it; undefined: no step is skipped.
  StepResult result_;                    ///< Of the last step.
  RecordedStep recorded_step_;
  CheckpointStore checkpoints_;
  TrainState state_;
  std::optional<MetricsLog> metrics_;
  std::optional<Progress> progress_;
  const class InterruptGuard* interrupt_ = nullptr;

  std::chrono::steady_clock::time_point window_start_;
  int64_t window_steps_ = 0;
  double window_data_wait_ = 0;
};

}  // namespace vrwkv::train

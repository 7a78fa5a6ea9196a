#pragma once

#include <chrono>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "config/run_config.h"
#include "distributed/gradient_sync.h"
#include "distributed/world.h"
#include "train/anomaly.h"
#include "train/batch_split.h"
#include "train/checkpoint_store.h"
#include "train/checkpoint_writer.h"
#include "train/ema.h"
#include "train/loggers/progress.h"
#include "train/loggers/run_log.h"
#include "train/loss_scale.h"
#include "train/optimizer.h"
#include "train/optimizer_shards.h"
#include "train/task.h"
#include "train/train_state.h"
#include "train/train_step.h"
#include "vrwkv/recorded_step.h"

namespace vrwkv::train {

/// The training loop: steps, logs, evaluates, saves. What is trained is the Task's business.
///
/// The run folder receives config.yaml, train.log, the files of RunLog, anomalies.jsonl and checkpoints/. All
/// randomness of a step is seeded from (seed, step), so that a resumed run continues as if it had never stopped.
class Trainer {
 public:
  /// `resume`: "auto" (the newest readable checkpoint of the run folder, if any), a checkpoint file, or nothing for a
  /// new run. Throws UsageError when the run folder holds a run and a new one is asked for, or when the checkpoint was
  /// made with another number of steps per epoch; std::runtime_error when it is damaged or does not fit.
  ///
  /// Of several processes, rank 0 alone reads and writes files and logs; the others get its state. `task` must give
  /// each its share of the data.
  Trainer(const config::RunConfig& config, Task& task, const std::optional<std::string>& resume,
          std::shared_ptr<distributed::World> world = std::make_shared<distributed::World>());

  /// Trains to the last epoch, or until SIGINT or SIGTERM, which saves `last` and returns after the present step.
  /// Throws std::runtime_error for an anomaly that ends the run; the last checkpoint is then of before it.
  void run();

 private:
  void train();
  void train_epoch();
  void finish_epoch(int64_t done);
  void step();
  bool passed_over() const;  ///< Whether the next step's batch is not trained with.
  bool watch();              ///< Logs and looks for anomalies; false when the run went back to a checkpoint.
  void log_step(const AnomalyMonitor::Reading& reading);
  bool answer(const std::vector<Anomaly>& found);
  void roll_back(const std::vector<Anomaly>& found);
  [[noreturn]] void stop(const std::vector<Anomaly>& found, const std::string& why);
  void open_logs();
  double step_lr() const;
  bool evaluate();  ///< True for the best score so far.
  Evaluation evaluate_weights();
  Trained trained();
  void save(CheckpointWriter::As as = CheckpointWriter::As::last, std::optional<int64_t> epoch = std::nullopt);
  void finish_saving();
  void open_folder(const std::optional<std::string>& resume);
  void resume_from(const std::string& request);
  void share_state();
  void vote_to_stop();
  void limit_gradients();
  void start_window();
  bool due(int64_t every) const;

  config::RunConfig config_;
  Task& task_;
  std::shared_ptr<distributed::World> world_;
  BatchSplit split_;
  std::filesystem::path folder_;
  int64_t steps_per_epoch_;
  std::unique_ptr<OptimizerShards> shards_;  ///< Where the optimizer's sums are divided.
  std::unique_ptr<Optimizer> optimizer_;
  std::optional<Ema> ema_;
  std::optional<LossScale> loss_scale_;              ///< Of float16.
  torch::Tensor skip_above_;                         ///< As train_step takes it; undefined: no step is skipped.
  std::unique_ptr<distributed::GradientSync> sync_;  ///< Of several processes.
  StepResult result_;                                ///< Of the last step.
  double lr_ = 0;                                    ///< Of the last step.
  RecordedStep recorded_step_;
  CheckpointStore checkpoints_;
  CheckpointWriter writer_{checkpoints_};
  std::map<std::string, torch::Tensor> resumed_optimizer_;  ///< Its state in rank 0 until share_state() has divided it.
  TrainState state_;
  AnomalyMonitor monitor_;
  std::optional<RunLog> log_;
  std::optional<Progress> progress_;
  const class InterruptGuard* interrupt_ = nullptr;
  bool stopping_ = false;  ///< A signal has reached a process, and all know it.

  std::chrono::steady_clock::time_point window_start_;
  int64_t window_steps_ = 0;
  double window_data_wait_ = 0;
};

}  // namespace vrwkv::train

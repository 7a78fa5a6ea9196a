#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>

#include "config/run_config.h"
#include "train/loggers/csv_log.h"
#include "train/loggers/metrics_log.h"
#include "train/loggers/tensorboard.h"

namespace vrwkv::train {

/// All files that hold a run's numbers: metrics.jsonl, train.csv and eval.csv, TensorBoard's event files,
/// learning_curves.png. What is not finite is null in metrics.jsonl, empty in the CSV files, NaN or infinite in
/// TensorBoard, and a gap in the curves.
class RunLog {
 public:
  /// Goes on after `step`: what the files hold beyond it is removed (TensorBoard's points are marked as void). Throws
  /// std::runtime_error, as all members do, naming the file that cannot be written.
  RunLog(const std::filesystem::path& folder, const config::LogOptions& options, int64_t step);

  void write(const StepMetrics& metrics);

  /// `epoch`: epochs done. Draws the learning curves, too.
  void write_evaluation(int64_t step, int64_t epoch, const std::map<std::string, double>& metrics);

  void draw() const;

 private:
  std::filesystem::path folder_;
  MetricsLog metrics_;
  std::optional<CsvLog> train_csv_, eval_csv_;
  std::optional<TensorboardLog> tensorboard_;
};

}  // namespace vrwkv::train

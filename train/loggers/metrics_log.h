#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>

namespace vrwkv::train {

/// What one training step is logged with.
struct StepMetrics {
  int64_t step = 0;  ///< Optimizer steps done, this one included.
  double epoch = 0;  ///< The same in epochs.
  double loss = 0;   ///< Of this step's batch.
  double lr = 0;
  double grad_norm = 0;     ///< Before clipping.
  double images_per_s = 0;  ///< Since the last logged step.
  double data_wait = 0;     ///< Share of that time spent waiting for data.
};

/// metrics.jsonl: one JSON object a line, {"kind": "train", …} or {"kind": "eval", …}, written through at once.
class MetricsLog {
 public:
  /// Opens the file for appending. Lines beyond `step` (of a run that went on after its last checkpoint) and a torn
  /// last line are removed first, so that the file reads as if the run had never stopped.
  MetricsLog(const std::filesystem::path& path, int64_t step);

  void write(const StepMetrics& metrics);
  void write_evaluation(int64_t step, int64_t epoch, const std::map<std::string, double>& metrics);

 private:
  void write_line(const std::string& line);

  std::filesystem::path path_;
  std::ofstream file_;
};

}  // namespace vrwkv::train

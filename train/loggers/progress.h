#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/log.h"
#include "train/loggers/metrics_log.h"

namespace vrwkv::train {

/// Progress on stderr: a line that is redrawn when stderr is a terminal, otherwise a log line for every logged step.
class Progress {
 public:
  /// The run goes on at `first_step`; rate and time left are counted from there.
  Progress(int64_t epochs, int64_t steps_per_epoch, int64_t first_step);

  /// A step without metrics: moves the bar, cheap enough for every step.
  void advance(int64_t step);

  /// A logged step.
  void update(const StepMetrics& metrics);

  /// Draws the line a last time and ends it. Without this the destructor ends it as it is.
  void finish();

 private:
  void draw();
  double share() const;
  std::vector<std::string> fields() const;

  int64_t epochs_, steps_per_epoch_, first_step_, step_;
  std::optional<StepMetrics> latest_;
  std::chrono::steady_clock::time_point start_, last_draw_;
  std::optional<log::LiveLine> live_;  ///< Only on a terminal.
};

}  // namespace vrwkv::train

#pragma once

#include <torch/types.h>

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "config/run_config.h"
#include "distributed/world.h"
#include "train/train_step.h"

namespace vrwkv::train {

/// What the watch over a run must remember to go on after an interruption as if there had been none. Part of the
/// checkpoint.
struct WatchState {
  std::vector<double> losses, grad_norms;  ///< Of the last ordinary steps, options.window at most, oldest first.
  double skip_above = std::numeric_limits<float>::max();  ///< skip: as train_step takes it.
  int64_t in_a_row = 0;                                   ///< Anomalous steps up to the present one.
  int64_t rollbacks = 0;
  std::vector<int64_t> passed_over;  ///< Steps (counted from 0) whose batches are not trained with.

  bool operator==(const WatchState&) const = default;
};

/// A step, and why it is anomalous.
struct Anomaly {
  int64_t step = 0;  ///< Optimizer steps done, this one included.
  double loss = 0;
  double grad_norm = 0;
  std::string what;      ///< "the loss is nan", "the gradient norm 431 is 37 times its median 11.6 over 100 steps".
  bool skipped = false;  ///< The update was left out.
  int64_t in_a_row = 1;  ///< Anomalous steps in a row up to this one.
  std::vector<std::string> files;
};

/// Finds steps whose loss or gradient norm is not finite, or above options.spike_factor times its median over the last
/// options.window ordinary steps; before there are so many, nothing is a spike. Every step's numbers are kept on the
/// device, so the host waits for them only in look().
class AnomalyMonitor {
 public:
  /// `capacity`: steps between two looks, at most. `scaled`: a loss scale answers to gradients that are not finite, so
  /// they are no anomaly.
  AnomalyMonitor(const config::AnomalyOptions& options, int64_t capacity, bool scaled);

  /// After step `step`; `files` are the names of its batch. Does not wait for the device. Throws std::logic_error
  /// beyond the capacity.
  void record(int64_t step, const StepResult& result, std::vector<std::string> files);

  /// The anomalies among the steps recorded since the last look, which waits for them. Updates `state`, except what
  /// belongs to rollbacks and skip_above.
  /// Of several processes, all look at the same time; losses are their mean.
  std::vector<Anomaly> look(WatchState& state, distributed::World& world);

  /// look() in a process on its own.
  std::vector<Anomaly> look(WatchState& state);

  /// Loss and gradient norm of a step that the last look read.
  struct Reading {
    double loss = 0;
    double grad_norm = 0;
  };
  std::optional<Reading> reading(int64_t step) const;

  /// The gradient norm above which a step is to be skipped: spike_factor times the median; the largest float32 where no
  /// spike can be told, which leaves what is not finite.
  double skip_above(const WatchState& state) const;

  /// Forgets all that was recorded and read: the run goes on from elsewhere.
  void clear();

 private:
  struct Recorded {
    int64_t step = 0;
    std::vector<std::string> files;
  };

  std::string judge(const WatchState& state, double loss, double grad_norm, bool skipped) const;
  std::string judge_spike(const char* name, double value, const std::vector<double>& window) const;
  void remember(std::vector<double>& window, double value) const;
  std::optional<double> limit(const std::vector<double>& window) const;

  config::AnomalyOptions options_;
  int64_t capacity_;
  bool scaled_;
  torch::Tensor numbers_;  ///< float64 [capacity, 3] on the device: loss, gradient norm, 1 where skipped.
  std::vector<Recorded> recorded_;
  std::optional<int64_t> last_step_;
  Reading last_;
};

}  // namespace vrwkv::train

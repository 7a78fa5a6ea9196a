#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <functional>
#include <vector>

namespace vrwkv::bench {

/// How long a call took, over several runs.
struct Timing {
  double median_ms = 0, p10_ms = 0, p90_ms = 0;
  int64_t runs = 0;
};

struct TimerOptions {
  double min_seconds = 0.5;   ///< Runs go on until they took so long together ...
  int64_t min_runs = 10;      ///< ... and were so many,
  double max_seconds = 20;    ///< or took so long and were at least three.
  int64_t warmup_calls = 3;   ///< Calls before the first run, not timed.
  double min_run_ms = 1;      ///< A run is as many calls as take so long; its time is divided by their number.
  bool hide_launches = false; /**< On a GPU: hold its queue back until a run is enqueued, so that its time is that of
                                   the kernels also where the host needs longer to launch them. */
};

/// The time of one call of `fn`, which works on `device` (on a GPU: enqueues on its current stream). Runs are timed by
/// events in the GPU's queue, the host waits only now and then; on the CPU by its clock.
Timing measure(const std::function<void()>& fn, at::Device device, const TimerOptions& options);

/// The value below which the share `q` (0 ... 1) of `values` lies, interpolated linearly between neighbours. Throws
/// std::logic_error without values.
double quantile(std::vector<double> values, double q);

/// Median, p10 and p90 of the times (milliseconds) of all runs.
Timing summarize(const std::vector<double>& run_ms);

/// Waits until `device` has done all that was enqueued.
void synchronize(at::Device device);

}  // namespace vrwkv::bench

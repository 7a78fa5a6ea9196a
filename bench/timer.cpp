#include "bench/timer.h"

#include <c10/core/DeviceGuard.h>
#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <stdexcept>

#include "bench/device_info.h"

namespace vrwkv::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr double kMsPerSecond = 1e3;
constexpr int64_t kCallsToCalibrate = 4;
constexpr int64_t kMaxCallsPerRun = 1 << 16;
constexpr int64_t kMinRunsWhenLong = 3;
/// A GPU's queue takes about a thousand launches before the host must wait: with hidden launches all calls of a round
/// are in it at once, each of a handful of kernels.
constexpr int64_t kMaxHiddenCalls = 100;
/// What is enqueued before the host waits: long enough that the wait costs nothing.
constexpr double kRoundMs = 100;
constexpr int64_t kMaxRunsPerRound = 64;
/// The host's time to enqueue varies: the queue is held back for longer than was measured.
constexpr double kHoldFactor = 1.5;
constexpr double kMinHoldMs = 0.05;

double ms_since(Clock::time_point start) {
  return kMsPerSecond * std::chrono::duration<double>(Clock::now() - start).count();
}

c10::Stream current_stream(at::Device device) { return c10::impl::VirtualGuardImpl(device.type()).getStream(device); }

/// What is timed together: `runs` times `calls` calls.
struct Round {
  int64_t calls = 1;
  int64_t runs = 1;
  double hold_ms = 0;  ///< How long the GPU's queue is held back first; 0: not at all.
};

struct RoundTimes {
  std::vector<double> run_ms;  ///< Of one call, one number for each run.
  double host_ms = 0;          ///< What the host took to enqueue the round.
};

RoundTimes time_on_cpu(const std::function<void()>& fn, const Round& round) {
  RoundTimes times;
  for (int64_t run = 0; run < round.runs; ++run) {
    const auto start = Clock::now();
    for (int64_t call = 0; call < round.calls; ++call) fn();
    times.run_ms.push_back(ms_since(start) / static_cast<double>(round.calls));
  }
  return times;
}

/// A run ends with the event with which the next one starts, so nothing but `fn` is between two events.
RoundTimes time_on_gpu(const std::function<void()>& fn, at::Device device, const Round& round) {
  const c10::Stream stream = current_stream(device);
  std::vector<c10::Event> events;
  for (int64_t run = 0; run <= round.runs; ++run) events.emplace_back(device.type(), c10::EventFlag::BACKEND_DEFAULT);
  RoundTimes times;
  if (round.hold_ms > 0) hold_queue(device, round.hold_ms);
  const auto start = Clock::now();
  events.front().record(stream);
  for (int64_t run = 0; run < round.runs; ++run) {
    for (int64_t call = 0; call < round.calls; ++call) fn();
    events[static_cast<std::size_t>(run) + 1].record(stream);
  }
  times.host_ms = ms_since(start);
  events.back().synchronize();
  for (std::size_t run = 1; run < events.size(); ++run) {
    times.run_ms.push_back(events[run - 1].elapsedTime(events[run]) / static_cast<double>(round.calls));
  }
  return times;
}

RoundTimes time_round(const std::function<void()>& fn, at::Device device, const Round& round) {
  return device.is_cpu() ? time_on_cpu(fn, round) : time_on_gpu(fn, device, round);
}

/// Rounds of a good size, from the time of a few calls.
Round plan(const std::function<void()>& fn, at::Device device, const TimerOptions& options) {
  const bool hide = options.hide_launches && !device.is_cpu();
  Round trial;
  RoundTimes times = time_round(fn, device, trial);
  if (times.run_ms.front() < options.min_run_ms) {  // short: a single call says little
    trial.calls = kCallsToCalibrate;
    trial.hold_ms = hide ? kMinHoldMs + kHoldFactor * static_cast<double>(kCallsToCalibrate) * times.host_ms : 0;
    times = time_round(fn, device, trial);
  }
  const double call_ms = std::max(times.run_ms.front(), 1e-6);
  Round round;
  round.calls = std::clamp<int64_t>(std::llround(std::ceil(options.min_run_ms / call_ms)), 1,
                                    hide ? kMaxHiddenCalls : kMaxCallsPerRun);
  if (device.is_cpu()) return round;
  const double run_ms = call_ms * static_cast<double>(round.calls);
  round.runs = std::clamp<int64_t>(std::llround(kRoundMs / run_ms), 1, kMaxRunsPerRound);
  if (!hide) return round;
  round.runs = std::clamp<int64_t>(round.runs, 1, kMaxHiddenCalls / round.calls);
  const double host_call_ms = times.host_ms / static_cast<double>(trial.calls);
  round.hold_ms = kMinHoldMs + kHoldFactor * host_call_ms * static_cast<double>(round.calls * round.runs);
  return round;
}

}  // namespace

double quantile(std::vector<double> values, double q) {
  if (values.empty()) throw std::logic_error("quantile: there are no values");
  std::sort(values.begin(), values.end());
  const double position = q * static_cast<double>(values.size() - 1);
  const auto below = static_cast<std::size_t>(position);
  const std::size_t above = std::min(below + 1, values.size() - 1);
  return values[below] + (position - static_cast<double>(below)) * (values[above] - values[below]);
}

Timing summarize(const std::vector<double>& run_ms) {
  return {quantile(run_ms, 0.5), quantile(run_ms, 0.1), quantile(run_ms, 0.9), static_cast<int64_t>(run_ms.size())};
}

void synchronize(at::Device device) {
  if (!device.is_cpu()) current_stream(device).synchronize();
}

Timing measure(const std::function<void()>& fn, at::Device device, const TimerOptions& options) {
  const c10::DeviceGuard guard(device);
  for (int64_t call = 0; call < options.warmup_calls; ++call) fn();
  synchronize(device);
  const Round round = plan(fn, device, options);
  std::vector<double> run_ms;
  const auto start = Clock::now();
  const auto enough = [&] {
    const double seconds = ms_since(start) / kMsPerSecond;
    const auto runs = static_cast<int64_t>(run_ms.size());
    if (seconds >= options.max_seconds && runs >= kMinRunsWhenLong) return true;
    return seconds >= options.min_seconds && runs >= options.min_runs;
  };
  while (!enough()) {
    const RoundTimes times = time_round(fn, device, round);
    run_ms.insert(run_ms.end(), times.run_ms.begin(), times.run_ms.end());
  }
  return summarize(run_ms);
}

}  // namespace vrwkv::bench

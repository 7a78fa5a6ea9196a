#pragma once

namespace vrwkv::train {

/// While it lives, the first SIGINT (Ctrl-C) or SIGTERM only sets a flag, so that the run can save and end in order;
/// the second one ends the process at once. Restores the former handlers. Use one at a time.
class InterruptGuard {
 public:
  InterruptGuard();
  ~InterruptGuard();
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;

  /// Whether a signal has arrived.
  bool requested() const;
};

}  // namespace vrwkv::train

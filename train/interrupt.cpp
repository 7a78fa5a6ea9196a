#include "train/interrupt.h"

#include <array>
#include <csignal>

namespace vrwkv::train {
namespace {

constexpr std::array kSignals{SIGINT, SIGTERM};

struct SignalState {
  volatile std::sig_atomic_t requested = 0;
  std::array<struct sigaction, kSignals.size()> former{};
};

/// A handler reaches nothing but static storage.
SignalState& state() {
  static SignalState instance;
  return instance;
}

extern "C" void vrwkv_on_signal(int signal_number) {
  if (state().requested != 0) {
    std::signal(signal_number, SIG_DFL);
    std::raise(signal_number);
  }
  state().requested = 1;
}

}  // namespace

InterruptGuard::InterruptGuard() {
  state().requested = 0;
  struct sigaction action {};
  action.sa_handler = vrwkv_on_signal;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  for (size_t i = 0; i < kSignals.size(); ++i) sigaction(kSignals[i], &action, &state().former[i]);
}

InterruptGuard::~InterruptGuard() {
  for (size_t i = 0; i < kSignals.size(); ++i) sigaction(kSignals[i], &state().former[i], nullptr);
}

bool InterruptGuard::requested() const { return state().requested != 0; }

}  // namespace vrwkv::train

#include "distributed/presence.h"

#include <unistd.h>

#include <array>
#include <condition_variable>
#include <cstdlib>
#include <sstream>
#include <torch/csrc/distributed/c10d/Store.hpp>
#include <vector>

#include "common/log.h"

namespace vrwkv::distributed {
namespace {

using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

constexpr auto kBeat = 1s;
constexpr auto kGrace = 15s;  ///< For an operation that ends by itself after the timeout.
constexpr auto kLook = 3s;    ///< Between two looks at the others' signs; a living process gives two meanwhile.
constexpr auto kStay = 15s;   ///< The longest that the store is kept for the others after a failure.
constexpr int64_t kBeatsAfterTold = 5;  ///< Time for an operation to end by itself after another process's failure.

/// What a process does; the sign's third line.
constexpr const char* kWorking = "working";
constexpr const char* kWaiting = "waiting";
constexpr const char* kFailed = "failed";  ///< An operation with others has failed; it looks who is missing.
constexpr const char* kLooked = "looked";  ///< Failed, and needs the store no longer.
constexpr const char* kLeft = "left";
constexpr const char* kReason = "presence/reason";  ///< Of the first process that failed.

std::string host_name() {
  std::array<char, 256> name{};
  return ::gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "unknown host";
}

std::string key_of(int64_t rank) { return "presence/" + std::to_string(rank); }

/// What one process tells: four lines.
struct Sign {
  std::string count, who, state, stage;

  explicit Sign(const std::string& text) {
    std::istringstream lines(text);
    for (std::string* line : {&count, &who, &state, &stage}) std::getline(lines, *line);
  }
};

}  // namespace

Presence::Presence(c10::intrusive_ptr<c10d::Store> store, int64_t rank, int64_t size, std::chrono::seconds timeout,
                   bool keeps_store)
    : store_(std::move(store)),
      rank_(rank),
      size_(size),
      timeout_(timeout),
      keeps_store_(keeps_store),
      state_(kWorking),
      since_(Clock::now()) {
  beat();
  thread_ = std::jthread([this](const std::stop_token& stop) {
    std::mutex mutex;
    std::condition_variable_any wake;
    std::unique_lock lock(mutex);
    while (!wake.wait_for(lock, stop, kBeat, [] { return false; }) && !stop.stop_requested()) run();
  });
}

Presence::~Presence() = default;

void Presence::enter(const std::string& stage) {
  const std::lock_guard lock(mutex_);
  stage_ = stage;
}

void Presence::set_waiting(bool waiting) {
  const std::lock_guard lock(mutex_);
  state_ = waiting ? kWaiting : kWorking;
  since_ = Clock::now();
}

/// At once, as the others may look now.
void Presence::set_state(const char* state) {
  const std::lock_guard lock(mutex_);
  state_ = state;
  since_ = Clock::now();
  try {
    beat();
  } catch (const std::exception&) {
    // The store may have gone with rank 0.
  }
}

void Presence::leave() { set_state(kLeft); }

void Presence::beat() {
  const std::string sign = std::to_string(++beats_) + "\n" + "process " + std::to_string(::getpid()) + " on " +
                           host_name() + "\n" + state_ + "\n" + stage_;
  store_->set(key_of(rank_), std::vector<uint8_t>(sign.begin(), sign.end()));
}

std::string Presence::last_sign(int64_t rank) {
  const std::lock_guard lock(mutex_);
  if (!store_->check({key_of(rank)})) return "";
  const std::vector<uint8_t> sign = store_->get(key_of(rank));
  return {sign.begin(), sign.end()};
}

std::string Presence::suspects() {
  set_state(kFailed);
  std::string text;
  try {
    std::vector<std::string> before;
    for (int64_t rank = 0; rank < size_; ++rank) before.push_back(last_sign(rank));
    std::this_thread::sleep_for(kLook);
    for (int64_t rank = 0; rank < size_; ++rank) {
      const Sign former(before[static_cast<size_t>(rank)]), now(last_sign(rank));
      const bool lives = now.count != former.count;
      if (!lives) silent_.insert(rank);
      const bool failed = now.state == kFailed || now.state == kLooked;  // As this one: another is the cause.
      if (rank == rank_ || failed || (lives && now.state == kWaiting)) continue;
      text += "\n  rank " + std::to_string(rank) + ", " + (now.who.empty() ? "which never appeared" : now.who) + ": ";
      if (now.state == kLeft) {
        text += "has ended";
      } else {
        text += (lives ? "lives, and is still " : "gives no sign of life; its last work was ") + now.stage;
      }
    }
  } catch (const std::exception&) {
    text += "\n  rank 0, or the launcher, which keeps the common store: no longer reached";
  }
  return text;
}

bool Presence::all_have_looked() {
  for (int64_t rank = 0; rank < size_; ++rank) {
    if (rank != rank_ && !silent_.contains(rank) && Sign(last_sign(rank)).state != kLooked) return false;
  }
  return true;
}

void Presence::tell(const std::string& why) {
  {
    const std::lock_guard lock(mutex_);
    if (state_ == kLooked) return;
  }
  set_state(kLooked);
  try {
    {
      const std::lock_guard lock(mutex_);
      store_->compareSet(kReason, {}, std::vector<uint8_t>(why.begin(), why.end()));
    }
    const auto end = Clock::now() + kStay;
    while (keeps_store_ && !all_have_looked() && Clock::now() < end) std::this_thread::sleep_for(100ms);
  } catch (const std::exception&) {
    // No store, nobody to tell.
  }
}

/// Under the lock.
void Presence::end_if_told() {
  if (!store_->check({kReason}) || ++beats_since_told_ < kBeatsAfterTold) return;
  const std::vector<uint8_t> why = store_->get(kReason);
  state_ = kLooked;
  beat();
  log::error("rank " + std::to_string(rank_) +
             " waits for the others in vain and ends, as one of them has failed:\n  " +
             std::string(why.begin(), why.end()));
  std::_Exit(1);
}

void Presence::run() {
  bool stuck = false;
  {
    const std::lock_guard lock(mutex_);
    if (state_ == kLeft) return;
    const bool waiting = state_ == kWaiting;
    try {
      beat();
      if (waiting) end_if_told();
    } catch (const std::exception&) {
      // Nobody to tell; a wait in vain ends below.
    }
    stuck = waiting && Clock::now() - since_ > timeout_ + kGrace;
  }
  if (!stuck) return;
  const std::string found = suspects();
  const std::string why = "rank " + std::to_string(rank_) + " has waited for the others for more than " +
                          std::to_string(timeout_.count()) + " s (train.distributed.timeout) and ends; the others:" +
                          (found.empty() ? "\n  all wait alike; is the network between the hosts blocked?" : found);
  tell(why);
  log::error(why);
  std::_Exit(1);
}

}  // namespace vrwkv::distributed

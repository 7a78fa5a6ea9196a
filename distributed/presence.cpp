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
constexpr const char* kLeft = "left";

std::string host_name() {
  std::array<char, 256> name{};
  return ::gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "unknown host";
}

std::string key_of(int64_t rank) { return "presence/" + std::to_string(rank); }

constexpr const char* kWaiting = "waiting";
constexpr const char* kWorking = "working";

/// What one process tells: four lines.
struct Sign {
  std::string count, who, state, stage;

  explicit Sign(const std::string& text) {
    std::istringstream lines(text);
    for (std::string* line : {&count, &who, &state, &stage}) std::getline(lines, *line);
  }
};

}  // namespace

Presence::Presence(c10::intrusive_ptr<c10d::Store> store, int64_t rank, int64_t size, std::chrono::seconds timeout)
    : store_(std::move(store)), rank_(rank), size_(size), timeout_(timeout), since_(Clock::now()) {
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
  waiting_ = waiting;
  since_ = Clock::now();
}

void Presence::leave() {
  const std::lock_guard lock(mutex_);
  left_ = true;
  try {
    beat();
  } catch (const std::exception&) {
    // The store may have gone with rank 0.
  }
}

void Presence::beat() {
  const std::string sign = std::to_string(++beats_) + "\n" + "process " + std::to_string(::getpid()) + " on " +
                           host_name() + "\n" + (left_ ? kLeft : (waiting_ ? kWaiting : kWorking)) + "\n" + stage_;
  store_->set(key_of(rank_), std::vector<uint8_t>(sign.begin(), sign.end()));
}

std::string Presence::last_sign(int64_t rank) {
  const std::lock_guard lock(mutex_);
  if (!store_->check({key_of(rank)})) return "";
  const std::vector<uint8_t> sign = store_->get(key_of(rank));
  return {sign.begin(), sign.end()};
}

std::string Presence::suspects() {
  std::string text;
  try {
    std::vector<std::string> before;
    for (int64_t rank = 0; rank < size_; ++rank) before.push_back(last_sign(rank));
    std::this_thread::sleep_for(kLook);
    for (int64_t rank = 0; rank < size_; ++rank) {
      const Sign former(before[static_cast<size_t>(rank)]), now(last_sign(rank));
      const bool lives = now.count != former.count;
      if (rank == rank_ || (lives && now.state == kWaiting)) continue;
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

void Presence::run() {
  bool stuck = false;
  {
    const std::lock_guard lock(mutex_);
    if (left_) return;
    try {
      beat();
    } catch (const std::exception&) {
      // Nobody to tell; a wait in vain ends below.
    }
    stuck = waiting_ && Clock::now() - since_ > timeout_ + kGrace;
  }
  if (!stuck) return;
  const std::string found = suspects();
  log::error("rank " + std::to_string(rank_) + " has waited for the others for more than " +
             std::to_string(timeout_.count()) + " s (train.distributed.timeout) and ends; the others:" +
             (found.empty() ? "\n  all wait alike; is the network between the hosts blocked?" : found));
  std::_Exit(1);
}

}  // namespace vrwkv::distributed

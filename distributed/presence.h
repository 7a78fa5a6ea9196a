#pragma once

#include <c10/util/intrusive_ptr.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <set>
#include <string>
#include <thread>

namespace c10d {
class Store;
}

namespace vrwkv::distributed {

/// Signs of life. A thread tells the store about once a second that this process lives, and what it does. When the
/// process has waited for the others for longer than the timeout, the thread looks at their signs, logs who is missing
/// or does something else, and ends the process, as nothing else ends a collective operation that hangs. The same when
/// another process has told that it fails, and this one goes on waiting.
class Presence {
 public:
  /// `store`: a connection that nobody else uses. `keeps_store`: the store itself goes with this process.
  Presence(c10::intrusive_ptr<c10d::Store> store, int64_t rank, int64_t size, std::chrono::seconds timeout,
           bool keeps_store);
  ~Presence();
  Presence(const Presence&) = delete;
  Presence& operator=(const Presence&) = delete;

  /// What this process does from now on.
  void enter(const std::string& stage);

  /// Whether it waits for the others, which is what the timeout counts.
  void set_waiting(bool waiting);

  /// From now on this process's silence is no failure.
  void leave();

  /// One line for each other process that gives no sign of life within a few seconds or does not wait; empty when there
  /// is none. Takes these seconds. From now on this process counts as one that has failed because of others.
  std::string suspects();

  /// Tells the others why this process ends. Whoever keeps the store waits a few seconds for those who have yet to look
  /// at it.
  void tell(const std::string& why);

 private:
  void beat();
  void run();
  void end_if_told();
  void set_state(const char* state);
  bool all_have_looked();
  std::string last_sign(int64_t rank);

  c10::intrusive_ptr<c10d::Store> store_;
  const int64_t rank_, size_;
  const std::chrono::seconds timeout_;
  const bool keeps_store_;

  std::mutex mutex_;  ///< Guards the store and the stage.
  std::string stage_ = "starting";
  std::string state_;
  std::chrono::steady_clock::time_point since_;  ///< Of the state.
  int64_t beats_ = 0, beats_since_told_ = 0;
  std::set<int64_t> silent_;  ///< Those who gave no sign of life when this process last looked.

  std::jthread thread_;  ///< Last: started when everything else is there.
};

}  // namespace vrwkv::distributed

#include "tools/parallel.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace vrwkv::tools {

void run_parallel(int64_t count, int64_t workers, const std::function<void(int64_t)>& work,
                  const std::function<void()>& watch) {
  const int64_t cores = std::max<int64_t>(1, std::thread::hardware_concurrency());
  const int64_t threads = std::min(workers > 0 ? workers : cores, count);
  std::atomic<int64_t> next = 0;
  std::mutex mutex;
  std::condition_variable ended;
  int64_t running = threads;
  std::exception_ptr error;
  const auto run = [&] {
    try {
      for (int64_t i = next++; i < count; i = next++) work(i);
    } catch (...) {
      next = count;
      const std::lock_guard lock(mutex);
      if (!error) error = std::current_exception();
    }
    const std::lock_guard lock(mutex);
    --running;
    ended.notify_one();
  };
  {
    std::vector<std::jthread> pool;
    try {
      for (int64_t i = 0; i < threads; ++i) pool.emplace_back(run);
    } catch (...) {
      next = count;
      throw;
    }
    std::unique_lock lock(mutex);
    while (!ended.wait_for(lock, std::chrono::milliseconds(100), [&] { return running == 0; })) {
      lock.unlock();
      watch();
      lock.lock();
    }
  }
  if (error) std::rethrow_exception(error);
  watch();
}

}  // namespace vrwkv::tools

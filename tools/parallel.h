#pragma once

#include <cstdint>
#include <functional>

namespace vrwkv::tools {

/// Calls work(0) … work(count - 1), each once, on `workers` threads (0: one per core), and watch() about ten times a
/// second, and once at the end, on the calling thread. After an exception no further work begins; the first one is
/// thrown when all threads have ended.
void run_parallel(int64_t count, int64_t workers, const std::function<void(int64_t)>& work,
                  const std::function<void()>& watch);

}  // namespace vrwkv::tools

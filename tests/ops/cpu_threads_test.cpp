// The CPU kernels share their work between LibTorch's threads.

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <time.h>

#include "ops/bi_wkv.h"

namespace vrwkv::testing {
namespace {

double seconds(clockid_t clock) {
  timespec time{};
  clock_gettime(clock, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

/// Of what the process computes, the calling thread computes about half; of serial loops nearly all. Either thread may
/// spin a little while it waits for the other, which long calls make small.
TEST(CpuThreads, ShareTheWork) {
  // Beyond what one exponent for a channel can hold, which takes the longer way.
  const at::Tensor w = at::full({256}, 1.0F), u = at::rand({256});
  const at::Tensor k = at::randn({64, 196, 256}), v = at::randn_like(k);
  const int threads = at::get_num_threads();
  at::set_num_threads(2);
  const double process = seconds(CLOCK_PROCESS_CPUTIME_ID), own = seconds(CLOCK_THREAD_CPUTIME_ID);
  for (int i = 0; i < 8; ++i) ops::bi_wkv(w, u, k, v);
  const double share = (seconds(CLOCK_THREAD_CPUTIME_ID) - own) / (seconds(CLOCK_PROCESS_CPUTIME_ID) - process);
  at::set_num_threads(threads);
  EXPECT_LT(share, 0.75);
}

}  // namespace
}  // namespace vrwkv::testing

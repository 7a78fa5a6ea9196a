#pragma once

#include <cstdint>

namespace vrwkv::distributed {

/// How gradients travel between processes: in their own type, or rounded to bfloat16, which halves the bytes.
enum class GradientDtype { own, bfloat16 };

struct Options {
  int64_t timeout = 600;  ///< Seconds that a process waits for the others before it ends.
  GradientDtype gradients = GradientDtype::own;
  /// Gradients that are reduced together, MiB; 0: 100 where all processes are on one host, else 25, so that less is
  /// left for the slower links when the backward pass has ended.
  int64_t bucket_mb = 0;
  bool shard_optimizer = false;  ///< Each process keeps the optimizer's sums of some of the parameters.

  bool operator==(const Options&) const = default;
};

}  // namespace vrwkv::distributed

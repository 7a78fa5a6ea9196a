#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "common/table.h"

namespace vrwkv::bench {

/// What one kernel, or kind of copy, of a GPU took in a step.
struct KernelTime {
  std::string name;    ///< As the compiler writes it, with its template arguments.
  double calls = 0;    ///< In a step.
  double step_us = 0;  ///< Of all its calls in a step.
};

/// What `step` (which enqueues work on the current GPU, also as a CUDA graph) spends its time on, longest first, by
/// PyTorch's profiler over a few calls.
std::vector<KernelTime> kernel_times(const std::function<void()>& step, at::Device device);

/// The first `rows`, their share of the sum of all, and a row for the rest.
Table kernel_table(const std::vector<KernelTime>& kernels, int64_t rows);
nlohmann::ordered_json kernel_json(const std::vector<KernelTime>& kernels);

}  // namespace vrwkv::bench

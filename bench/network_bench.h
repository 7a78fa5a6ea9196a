#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "bench/kernel_times.h"
#include "bench/steps.h"
#include "bench/timer.h"
#include "common/table.h"
#include "vrwkv/graph_mode.h"

namespace vrwkv::bench {

struct NetworkResult {
  NetworkCase network;
  std::optional<Timing> timing;       ///< Of one step; none: it ran out of memory.
  std::optional<int64_t> peak_bytes;  ///< Of all tensors, weights included, over all steps; only on a GPU.
  bool graph = false;                 ///< The step was a recorded CUDA graph.
  std::vector<KernelTime> kernels;    ///< Of profile_network(), where they were asked for.

  std::optional<double> images_per_s() const;
};

NetworkResult measure_network(const NetworkCase& network, const eval::Precision& precision, const StepFactory& factory,
                              GraphMode graph, const TimerOptions& timer);

/// What the step's time goes to, on a GPU. To be called when everything has been timed: what comes after a profile in
/// the same process was slower.
std::vector<KernelTime> profile_network(const NetworkCase& network, const eval::Precision& precision,
                                        const StepFactory& factory, GraphMode graph);

/// `dtype`: its name, the same in every row.
Table network_table(const std::vector<NetworkResult>& results, const std::string& dtype);
nlohmann::ordered_json network_json(const NetworkResult& result, const std::string& dtype);

}  // namespace vrwkv::bench

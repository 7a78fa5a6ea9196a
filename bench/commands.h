#pragma once

#include <string>
#include <vector>

#include "bench/flags.h"
#include "bench/steps.h"
#include "vrwkv/graph_mode.h"

namespace vrwkv::bench {

/// `vrwkv-bench ops`: measures, prints the table, writes --json. Returns the exit code; throws UsageError.
int run_ops(const OpsFlags& flags);

/// `vrwkv-bench model` and `train`; `kind` is that name, and the key of the rows in the JSON.
int run_networks(const std::string& kind, const NetworkFlags& flags, const StepFactory& factory);

/// The networks that the flags ask for.
std::vector<NetworkCase> make_cases(const NetworkFlags& flags, at::Device device);

GraphMode parse_graph_mode(const std::string& name);

/// `vrwkv-bench data`.
int run_data(const DataFlags& flags);

/// `vrwkv-bench scaling`, in each of its processes.
int run_scaling(const ScalingFlags& flags);

}  // namespace vrwkv::bench

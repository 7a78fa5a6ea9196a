#pragma once

#include <string>

#include "bench/flags.h"
#include "bench/steps.h"

namespace vrwkv::bench {

/// `vrwkv-bench ops`: measures, prints the table, writes --json. Returns the exit code; throws UsageError.
int run_ops(const OpsFlags& flags);

/// `vrwkv-bench model` and `train`; `kind` is that name, and the key of the rows in the JSON.
int run_networks(const std::string& kind, const NetworkFlags& flags, const StepFactory& factory);

}  // namespace vrwkv::bench

#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "bench/timer.h"
#include "cli/flags.h"

namespace vrwkv::bench {

/// What all subcommands take. Empty: the default that --help names.
struct CommonFlags {
  std::vector<std::string> sizes;
  std::string dtype, device = "auto", threads, min_time, json;
};

struct OpsFlags : CommonFlags {
  std::vector<std::string> ops;
  bool reference = false;
};

struct NetworkFlags : CommonFlags {
  std::vector<std::string> variants;
  std::string batch;
  std::string graph = "auto";
  std::string kernels;
};

struct ScalingFlags : NetworkFlags {
  std::string steps = "30";
  std::string gradients = "own";
  std::string bucket_mb;
};

struct DataFlags : cli::Flags {
  std::string seconds = "2";
  std::vector<std::string> workers{"1"};
  std::string json;
};

void add_ops_flags(CLI::App& command, OpsFlags& flags);
void add_network_flags(CLI::App& command, NetworkFlags& flags);
void add_scaling_flags(CLI::App& command, ScalingFlags& flags);
void add_data_flags(CLI::App& command, DataFlags& flags);

/// Checks --json, sets the number of threads and returns the device. Throws UsageError.
at::Device prepare(const CommonFlags& flags);

/// How long to measure; `seconds` without --min-time.
TimerOptions timer_options(const CommonFlags& flags, double seconds);

}  // namespace vrwkv::bench

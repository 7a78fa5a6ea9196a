#pragma once

#include <CLI/CLI.hpp>
#include <memory>
#include <string>
#include <vector>

#include "config/run_config.h"

namespace vrwkv::cli {

/// What every program's command line holds.
struct Flags {
  std::string config;
  std::vector<std::string> overrides;  ///< key.path=value, in order.
  std::string device;                  ///< Empty: run.device of the configuration.
  std::string dtype;                   ///< Empty: run.dtype of the configuration.
};

/// A command line with --help and --version; `program` is the executable's name, `purpose` one sentence.
std::unique_ptr<CLI::App> make_app(const std::string& program, const std::string& purpose);

/// CONFIG, --device and --dtype.
void add_flags(CLI::App& app, Flags& flags);
void add_config_flag(CLI::App& app, Flags& flags);  ///< CONFIG alone.
void add_dtype_flag(CLI::App& app, Flags& flags);   ///< --dtype alone.

/// --weights raw|ema; `weights` keeps its value when the flag is not given.
void add_weights_flag(CLI::App& app, WeightSet& weights);

/// The remaining arguments: key.path=value.
void add_overrides(CLI::App& app, Flags& flags);

/// Whether an argument is written as key.path=value: for commands whose other arguments are files.
bool is_override(const std::string& argument);

/// Checks that a flag's value is an integer from 1 on.
CLI::Validator positive_integer();

/// The configuration that the command line asks for; flags win over overrides. Throws UsageError.
config::RunConfig load_config(const Flags& flags);

/// load_config() for what only classifiers have. Throws UsageError for a configuration of another task.
config::RunConfig load_classifier_config(const Flags& flags);

}  // namespace vrwkv::cli

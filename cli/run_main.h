#pragma once

#include <CLI/CLI.hpp>
#include <functional>

namespace vrwkv::cli {

constexpr int kSuccess = 0;
constexpr int kRunFailed = 1;
constexpr int kBadUsage = 2;

/// The whole life of a program: parses the command line, runs `body` and returns the exit code: what `body` returned,
/// kBadUsage for a bad command line or UsageError, kRunFailed for any other exception and when stdout cannot be
/// written. Failures are printed to stderr as `program: error: what`, without stack traces.
int run_main(CLI::App& app, int argc, const char* const* argv, const std::function<int()>& body);

/// Prints `program: error: message` to stderr, once for each line of the message; indented lines are kept as they are.
void print_error(const CLI::App& app, const std::string& message);

}  // namespace vrwkv::cli

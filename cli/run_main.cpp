#include "cli/run_main.h"

#include <c10/util/Exception.h>

#include <iostream>
#include <new>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "common/errors.h"
#include "config/nearest_name.h"

namespace vrwkv::cli {
namespace {

constexpr const char* kMemoryHint =
    "; use a smaller batch (eval.batch_size, or train.batch_size and train.grad_accumulation) or smaller images";

std::vector<std::string> long_flags(const CLI::App& app) {
  std::vector<std::string> flags;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) flags.push_back("--" + name);
  }
  return flags;
}

/// An unknown flag, or nothing. CLI11 reports what is missing first, which a misspelt flag is often the reason for.
std::string unknown_flags(const CLI::App& app) {
  std::string text;
  for (const std::string& argument : app.remaining()) {
    const std::string flag = argument.substr(0, argument.find('='));
    if (!flag.starts_with('-')) continue;
    const std::optional<std::string> nearest = config::nearest_name(flag, long_flags(app));
    text += (text.empty() ? "" : ", ") + ("unknown flag '" + flag + "'") +
            (nearest ? " (did you mean '" + *nearest + "'?)" : "");
  }
  return text;
}

std::string usage_message(const CLI::App& app, const CLI::ParseError& error) {
  std::string text = unknown_flags(app);
  if (text.empty()) text = error.what();
  for (char& c : text) {
    if (c == '\n') c = ' ';
  }
  return text + "; see --help";
}

/// LibTorch's messages carry a stack trace, and advice for its own developers from the second line on.
std::string libtorch_message(const c10::Error& error) {
  std::istringstream text(error.what_without_backtrace());
  std::string line;
  while (std::getline(text, line) && line.empty()) {
  }
  const bool out_of_memory = dynamic_cast<const c10::OutOfMemoryError*>(&error) != nullptr ||
                             line.find("can't allocate memory") != std::string::npos;
  return out_of_memory ? line + kMemoryHint : line;
}

int run_body(const CLI::App& app, const std::function<int()>& body) {
  try {
    const int code = body();
    if (std::cout.flush()) return code;
    print_error(app, "cannot write to stdout");
  } catch (const UsageError& error) {
    print_error(app, error.what());
    return kBadUsage;
  } catch (const c10::Error& error) {
    print_error(app, libtorch_message(error));
  } catch (const std::bad_alloc&) {
    print_error(app, std::string("out of memory") + kMemoryHint);
  } catch (const std::exception& error) {
    print_error(app, error.what());
  }
  return kRunFailed;
}

}  // namespace

void print_error(const CLI::App& app, const std::string& message) {
  std::istringstream lines(message);
  std::string text;
  for (std::string line; std::getline(lines, line);) {
    if (line.empty()) continue;
    const bool continued = !text.empty() && line.front() == ' ';
    text += (continued ? "" : app.get_name() + ": error: ") + line + "\n";
  }
  std::cerr << text << std::flush;
}

int run_main(CLI::App& app, int argc, const char* const* argv, const std::function<int()>& body) {
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& request) {
    return app.exit(request);  // --help and --version
  } catch (const CLI::ParseError& error) {
    print_error(app, usage_message(app, error));
    return kBadUsage;
  }
  return run_body(app, body);
}

}  // namespace vrwkv::cli

#include "common/log.h"

#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <cstdio>
#include <memory>
#include <mutex>
#include <stdexcept>

namespace vrwkv::log {
namespace {

constexpr const char* kClearLine = "\r\033[K";

void put(const std::string& text) {
  std::fputs(text.c_str(), stderr);
  std::fflush(stderr);
}

/// The process has one log, as it has one stderr.
struct State {
  std::mutex mutex;
  spdlog::logger logger;
  std::string live_line;

  State() : logger("vrwkv", std::make_shared<spdlog::sinks::stderr_color_sink_mt>()) {
    logger.set_pattern("%H:%M:%S %^%l%$ %v");
    logger.flush_on(spdlog::level::debug);
  }
};

State& state() {
  static State instance;
  return instance;
}

void write(spdlog::level::level_enum level, std::string_view message) {
  State& log = state();
  const std::lock_guard lock(log.mutex);
  if (!log.logger.should_log(level)) return;
  if (!log.live_line.empty()) put(kClearLine);
  log.logger.log(level, "{}", message);
  if (!log.live_line.empty()) put(log.live_line);
}

spdlog::level::level_enum library_level(Level level) {
  switch (level) {
    case Level::debug:
      return spdlog::level::debug;
    case Level::info:
      return spdlog::level::info;
    case Level::warn:
      return spdlog::level::warn;
    case Level::error:
      return spdlog::level::err;
  }
  throw std::logic_error("log: unknown level");
}

}  // namespace

void debug(std::string_view message) { write(spdlog::level::debug, message); }
void info(std::string_view message) { write(spdlog::level::info, message); }
void warn(std::string_view message) { write(spdlog::level::warn, message); }
void error(std::string_view message) { write(spdlog::level::err, message); }

void set_level(Level level) {
  State& log = state();
  const std::lock_guard lock(log.mutex);
  log.logger.set_level(library_level(level));
}

void set_tag(std::string_view tag) {
  State& log = state();
  const std::lock_guard lock(log.mutex);
  log.logger.set_pattern("%H:%M:%S %^%l%$ [" + std::string(tag) + "] %v");
}

void add_file(const std::filesystem::path& file) {
  State& log = state();
  const std::lock_guard lock(log.mutex);
  try {
    auto sink = std::make_shared<spdlog::sinks::basic_file_sink_mt>(file.string());
    sink->set_pattern("%Y-%m-%d %H:%M:%S %l %v");
    log.logger.sinks().resize(1);  // The first is stderr.
    log.logger.sinks().push_back(std::move(sink));
  } catch (const spdlog::spdlog_ex& problem) {
    throw std::runtime_error("cannot log to " + file.string() + ": " + problem.what());
  }
}

LiveLine::LiveLine() = default;

LiveLine::~LiveLine() {
  State& log = state();
  const std::lock_guard lock(log.mutex);
  if (log.live_line.empty()) return;
  put("\n");
  log.live_line.clear();
}

void LiveLine::show(std::string text) {
  State& log = state();
  const std::lock_guard lock(log.mutex);
  put(kClearLine + text);
  log.live_line = std::move(text);
}

}  // namespace vrwkv::log

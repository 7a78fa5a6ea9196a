#include "common/log.h"

#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <mutex>
#include <stdexcept>

namespace vrwkv::log {
namespace {

/// The process has one log, as it has one stderr.
struct State {
  std::shared_ptr<spdlog::logger> logger;
  std::mutex mutex;
  std::function<void()> clear, redraw;

  State() : logger(std::make_shared<spdlog::logger>("vrwkv", std::make_shared<spdlog::sinks::stderr_color_sink_mt>())) {
    logger->set_pattern("%H:%M:%S %^%l%$ %v");
    logger->flush_on(spdlog::level::info);
  }
};

State& state() {
  static State instance;
  return instance;
}

void write(spdlog::level::level_enum level, std::string_view message) {
  State& log = state();
  const std::lock_guard lock(log.mutex);
  if (log.clear) log.clear();
  log.logger->log(level, "{}", message);
  if (log.redraw) log.redraw();
}

}  // namespace

void debug(std::string_view message) { write(spdlog::level::debug, message); }
void info(std::string_view message) { write(spdlog::level::info, message); }
void warn(std::string_view message) { write(spdlog::level::warn, message); }
void error(std::string_view message) { write(spdlog::level::err, message); }

void add_file(const std::filesystem::path& file) {
  State& log = state();
  const std::lock_guard lock(log.mutex);
  try {
    auto sink = std::make_shared<spdlog::sinks::basic_file_sink_mt>(file.string());
    sink->set_pattern("%Y-%m-%d %H:%M:%S %l %v");
    log.logger->sinks().push_back(std::move(sink));
  } catch (const spdlog::spdlog_ex& problem) {
    throw std::runtime_error("cannot log to " + file.string() + ": " + problem.what());
  }
}

LiveLine::LiveLine(std::function<void()> clear, std::function<void()> redraw) {
  State& log = state();
  const std::lock_guard lock(log.mutex);
  log.clear = std::move(clear);
  log.redraw = std::move(redraw);
}

LiveLine::~LiveLine() {
  State& log = state();
  const std::lock_guard lock(log.mutex);
  log.clear = nullptr;
  log.redraw = nullptr;
}

}  // namespace vrwkv::log

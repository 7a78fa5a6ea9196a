#include "train/loggers/metrics_log.h"

#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "common/atomic_file.h"

namespace vrwkv::train {
namespace {

using nlohmann::ordered_json;

[[noreturn]] void fail(const char* action, const std::filesystem::path& path) {
  throw std::runtime_error("cannot " + std::string(action) + " " + path.string() + ": " + std::strerror(errno));
}

/// The lines of an earlier part of the run that still hold at `step`.
std::string lines_up_to(const std::filesystem::path& path, int64_t step) {
  if (!std::filesystem::exists(path)) return "";
  std::ifstream file(path);
  if (!file) fail("read", path);
  std::string kept, line;
  while (std::getline(file, line)) {
    const auto json = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (json.is_object() && json.contains("step") && json["step"].is_number_integer() && json["step"] <= step) {
      kept += line + "\n";
    }
  }
  if (file.bad()) fail("read", path);
  return kept;
}

}  // namespace

MetricsLog::MetricsLog(const std::filesystem::path& path, int64_t step) : path_(path) {
  AtomicFile start(path);
  start.write(lines_up_to(path, step));
  start.commit();
  file_.open(path, std::ios::app);
  if (!file_) fail("write", path);
}

void MetricsLog::write_line(const std::string& line) {
  file_ << line << std::endl;
  if (!file_) fail("write", path_);
}

void MetricsLog::write(const StepMetrics& metrics) {
  write_line(ordered_json{{"kind", "train"},
                          {"step", metrics.step},
                          {"epoch", metrics.epoch},
                          {"loss", metrics.loss},
                          {"lr", metrics.lr},
                          {"grad_norm", metrics.grad_norm},
                          {"images_per_s", metrics.images_per_s},
                          {"data_wait", metrics.data_wait}}
                 .dump());
}

void MetricsLog::write_evaluation(int64_t step, int64_t epoch, const std::map<std::string, double>& metrics) {
  ordered_json line{{"kind", "eval"}, {"step", step}, {"epoch", epoch}};
  for (const auto& [name, value] : metrics) line[name] = value;
  write_line(line.dump());
}

}  // namespace vrwkv::train

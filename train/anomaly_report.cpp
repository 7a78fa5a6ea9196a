#include "train/anomaly_report.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <stdexcept>

namespace vrwkv::train {
namespace {

constexpr size_t kFilesShown = 3;

}  // namespace

std::string anomaly_line(const std::vector<Anomaly>& found) {
  const Anomaly& first = found.front();
  std::ostringstream text;
  text.precision(4);
  text << first.what << " at step " << first.step << " (loss " << first.loss << ", gradient norm " << first.grad_norm
       << ")";
  const size_t shown = std::min(first.files.size(), kFilesShown);
  for (size_t i = 0; i < shown; ++i) text << (i == 0 ? "; its batch: " : ", ") << first.files[i];
  if (first.files.size() > shown) text << " and " << first.files.size() - shown << " more";
  if (found.size() > 1) {
    text << "; then " << found.size() - 1 << " more anomalous steps up to step " << found.back().step;
  }
  text << "; all files are in anomalies.jsonl";
  return text.str();
}

void append_anomalies(const std::filesystem::path& folder, const std::vector<Anomaly>& found) {
  const std::filesystem::path path = folder / "anomalies.jsonl";
  std::ofstream file(path, std::ios::app);
  for (const Anomaly& anomaly : found) {
    file << nlohmann::ordered_json{{"step", anomaly.step},       {"what", anomaly.what},
                                   {"loss", anomaly.loss},       {"grad_norm", anomaly.grad_norm},
                                   {"skipped", anomaly.skipped}, {"files", anomaly.files}}
                .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)
         << "\n";
  }
  file.flush();
  if (!file) throw std::runtime_error("cannot write " + path.string() + ": " + std::strerror(errno));
}

}  // namespace vrwkv::train

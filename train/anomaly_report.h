#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "train/anomaly.h"

namespace vrwkv::train {

/// One line for people: what, at which step, with which files (the first few of them), and how many further anomalies
/// there were. `found` holds at least one.
std::string anomaly_line(const std::vector<Anomaly>& found);

/// Appends each anomaly with all its files to <folder>/anomalies.jsonl: {"step", "what", "loss", "grad_norm",
/// "skipped", "files"}. The file is a history: a resumed or rolled-back run keeps it. Throws std::runtime_error, naming
/// the file, when it cannot be written.
void append_anomalies(const std::filesystem::path& folder, const std::vector<Anomaly>& found);

}  // namespace vrwkv::train

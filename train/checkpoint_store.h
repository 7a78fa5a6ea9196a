#pragma once

#include <torch/types.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace vrwkv::train {

/// What one checkpoint file holds.
struct Checkpoint {
  std::map<std::string, torch::Tensor> tensors;
  std::map<std::string, std::string> metadata;
};

/// The files under <run>/checkpoints: last.safetensors, best.safetensors and epoch_0012.safetensors, the newest few.
/// Each is whole at any moment, whatever happens to the process, and carries a checksum of all that it holds.
class CheckpointStore {
 public:
  /// `keep`: how many epoch files stay. Nothing is touched before open().
  CheckpointStore(const std::filesystem::path& run_folder, int64_t keep);

  /// Creates the folder and removes temporary files that a killed run left.
  void open();

  /// Whether the folder holds a checkpoint, readable or not.
  bool empty() const;

  /// Writes last.safetensors. Throws std::runtime_error naming path and reason; the former file then stays.
  void save_last(const Checkpoint& checkpoint);

  /// Writes a checkpoint as best.safetensors and gives it the name last.safetensors, too.
  void save_best(const Checkpoint& checkpoint);

  /// Makes the present last.safetensors that of `epoch`, too; then all but the newest `keep` are removed.
  void keep_last_as_epoch(int64_t epoch);

  /// A file and what it holds.
  struct Found {
    std::filesystem::path path;
    Checkpoint checkpoint;
  };

  /// The checkpoint to go on from: for "auto" the newest that can be read (a damaged one gives a warning that says
  /// why), nothing if there is none at all; otherwise the file `request`. Throws UsageError for a missing file,
  /// std::runtime_error for a damaged one, and when "auto" finds damaged files only.
  std::optional<Found> find(const std::string& request) const;

  std::filesystem::path last_path() const { return folder_ / "last.safetensors"; }
  std::filesystem::path best_path() const { return folder_ / "best.safetensors"; }

 private:
  std::vector<std::filesystem::path> epoch_files() const;

  std::filesystem::path folder_;
  int64_t keep_;
};

/// Reads a checkpoint and compares its checksum. Throws std::runtime_error that names the file and the damage.
Checkpoint read_checkpoint(const std::filesystem::path& path);

}  // namespace vrwkv::train

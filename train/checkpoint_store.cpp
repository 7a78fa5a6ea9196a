#include "train/checkpoint_store.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <memory>
#include <new>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <tuple>

#include "common/atomic_file.h"
#include "common/errors.h"
#include "common/log.h"
#include "vrwkv/checkpoint/safetensors.h"

namespace vrwkv::train {
namespace {

namespace fs = std::filesystem;

constexpr const char* kChecksumKey = "checksum";

class Hash {
 public:
  Hash() : state_(XXH3_createState(), XXH3_freeState) {
    if (!state_) throw std::bad_alloc();
    XXH3_64bits_reset(state_.get());
  }
  void add(const void* data, size_t size) { XXH3_64bits_update(state_.get(), data, size); }
  /// With its length, so that neighbours cannot trade bytes.
  void add(const std::string& text) {
    const uint64_t size = text.size();
    add(&size, sizeof(size));
    add(text.data(), text.size());
  }
  std::string text() const {
    std::array<char, 32> result{};
    std::snprintf(result.data(), result.size(), "xxh3:%016llx",
                  static_cast<unsigned long long>(XXH3_64bits_digest(state_.get())));
    return result.data();
  }

 private:
  std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state_;
};

/// Hash of all that a checkpoint holds but the checksum itself. Its tensors must be contiguous and on the CPU.
std::string checksum(const Checkpoint& checkpoint) {
  Hash hash;
  for (const auto& [key, value] : checkpoint.metadata) {
    if (key == kChecksumKey) continue;
    hash.add(key);
    hash.add(value);
  }
  for (const auto& [name, tensor] : checkpoint.tensors) {
    hash.add(name);
    hash.add(c10::toString(tensor.scalar_type()));
    hash.add(tensor.sizes().data(), tensor.sizes().size() * sizeof(int64_t));
    hash.add(tensor.const_data_ptr(), tensor.nbytes());
  }
  return hash.text();
}

/// The metadata as a file will give it back, which is UTF-8.
std::map<std::string, std::string> as_utf8(const std::map<std::string, std::string>& metadata) {
  const std::string text = nlohmann::json(metadata).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  return nlohmann::json::parse(text).get<std::map<std::string, std::string>>();
}

void write_checkpoint(const fs::path& path, const Checkpoint& checkpoint) {
  Checkpoint host{{}, as_utf8(checkpoint.metadata)};
  for (const auto& [name, tensor] : checkpoint.tensors) {
    host.tensors.emplace(name, tensor.detach().cpu().contiguous());
  }
  host.metadata[kChecksumKey] = checksum(host);
  write_safetensors(path, host.tensors, host.metadata);
}

/// Later files first; of files as old as each other, the later epoch.
void sort_newest_first(std::vector<fs::path>& files) {
  std::vector<std::tuple<fs::file_time_type, size_t, std::string>> keyed;
  for (const auto& file : files) {
    std::error_code gone;
    // A longer name is a later epoch.
    keyed.emplace_back(fs::last_write_time(file, gone), file.string().size(), file.string());
  }
  std::sort(keyed.rbegin(), keyed.rend());
  files.clear();
  for (const auto& key : keyed) files.emplace_back(std::get<2>(key));
}

}  // namespace

CheckpointStore::CheckpointStore(const fs::path& run_folder, int64_t keep)
    : folder_(run_folder / "checkpoints"), keep_(keep) {}

void CheckpointStore::open() {
  std::error_code problem;
  fs::create_directories(folder_, problem);
  if (problem) throw UsageError("cannot create the run folder " + folder_.string() + ": " + problem.message());
  for (const auto& entry : fs::directory_iterator(folder_)) {
    if (entry.path().extension() == AtomicFile::kTemporarySuffix) fs::remove(entry.path(), problem);
  }
}

bool CheckpointStore::empty() const {
  return !fs::exists(last_path()) && !fs::exists(best_path()) && epoch_files().empty();
}

void CheckpointStore::save_last(const Checkpoint& checkpoint) { write_checkpoint(last_path(), checkpoint); }

void CheckpointStore::save_best(const Checkpoint& checkpoint) {
  // In this order a kill in between repeats the work since the former `last`; in the other it would lose the best file.
  write_checkpoint(best_path(), checkpoint);
  link_atomically(best_path(), last_path());
}

void CheckpointStore::keep_last_as_epoch(int64_t epoch) {
  if (keep_ <= 0) return;
  char name[40];
  std::snprintf(name, sizeof(name), "epoch_%04lld.safetensors", static_cast<long long>(epoch));
  link_atomically(last_path(), folder_ / name);
  auto files = epoch_files();
  for (size_t i = static_cast<size_t>(keep_); i < files.size(); ++i) fs::remove(files[i]);
}

std::vector<fs::path> CheckpointStore::epoch_files() const {
  std::vector<fs::path> files;
  if (!fs::is_directory(folder_)) return files;
  for (const auto& entry : fs::directory_iterator(folder_)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("epoch_") && name.ends_with(".safetensors")) files.push_back(entry.path());
  }
  sort_newest_first(files);
  return files;
}

std::optional<CheckpointStore::Found> CheckpointStore::find(const std::string& request) const {
  if (request != "auto") {
    if (!fs::exists(request)) throw UsageError("--resume: there is no file " + request);
    return Found{request, read_checkpoint(request)};
  }
  std::vector<fs::path> candidates = epoch_files();
  for (const auto& path : {last_path(), best_path()}) {
    if (fs::exists(path)) candidates.push_back(path);
  }
  sort_newest_first(candidates);
  // `last` is the newest by the way it is written; the times of the files can be lost when a run folder is copied.
  std::stable_partition(candidates.begin(), candidates.end(),
                        [&](const fs::path& path) { return path == last_path(); });
  std::string damage;
  for (const auto& path : candidates) {
    try {
      return Found{path, read_checkpoint(path)};
    } catch (const std::runtime_error& error) {
      log::warn(std::string("skipped a damaged checkpoint: ") + error.what());
      damage += std::string("\n  ") + error.what();
    }
  }
  if (damage.empty()) return std::nullopt;
  throw std::runtime_error("no checkpoint in " + folder_.string() + " can be read:" + damage);
}

Checkpoint read_checkpoint(const fs::path& path) {
  Safetensors file = read_safetensors(path);
  if (!file.metadata.contains(kChecksumKey)) {
    throw std::runtime_error(path.string() + ": not a checkpoint of a training run (it has no checksum)");
  }
  Checkpoint checkpoint{std::move(file.tensors), std::move(file.metadata)};
  const std::string actual = checksum(checkpoint);
  if (actual != checkpoint.metadata.at(kChecksumKey)) {
    throw std::runtime_error(path.string() + ": damaged, its content has checksum " + actual + ", expected " +
                             checkpoint.metadata.at(kChecksumKey));
  }
  return checkpoint;
}

}  // namespace vrwkv::train

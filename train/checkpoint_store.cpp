#include "train/checkpoint_store.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <stdexcept>

#include "common/atomic_file.h"
#include "common/errors.h"
#include "common/log.h"
#include "vrwkv/checkpoint/safetensors.h"

namespace vrwkv::train {
namespace {

namespace fs = std::filesystem;

constexpr const char* kChecksumKey = "checksum";

/// Hash of names and bytes of all tensors (contiguous, on the CPU), as text.
std::string checksum(const std::map<std::string, torch::Tensor>& tensors) {
  const std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state(XXH3_createState(), XXH3_freeState);
  XXH3_64bits_reset(state.get());
  for (const auto& [name, tensor] : tensors) {
    XXH3_64bits_update(state.get(), name.data(), name.size());
    XXH3_64bits_update(state.get(), tensor.const_data_ptr(), tensor.nbytes());
  }
  char text[32];
  std::snprintf(text, sizeof(text), "xxh3:%016llx", static_cast<unsigned long long>(XXH3_64bits_digest(state.get())));
  return text;
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

void CheckpointStore::save_last(const Checkpoint& checkpoint) {
  std::map<std::string, torch::Tensor> host;
  for (const auto& [name, tensor] : checkpoint.tensors) host.emplace(name, tensor.detach().cpu().contiguous());
  auto metadata = checkpoint.metadata;
  metadata[kChecksumKey] = checksum(host);
  write_safetensors(last_path(), host, metadata);
}

void CheckpointStore::mark_last_as_best() { link_atomically(last_path(), best_path()); }

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
  // Newest first: longer names are later epochs, then by digits.
  std::sort(files.begin(), files.end(), [](const fs::path& a, const fs::path& b) {
    const std::string x = a.filename().string(), y = b.filename().string();
    return x.size() != y.size() ? x.size() > y.size() : x > y;
  });
  return files;
}

std::optional<CheckpointStore::Found> CheckpointStore::find(const std::string& request) const {
  if (request != "auto") {
    if (!fs::exists(request)) throw UsageError("--resume: there is no file " + request);
    return Found{request, read_checkpoint(request)};
  }
  std::vector<fs::path> candidates{last_path()};
  const auto epochs = epoch_files();
  candidates.insert(candidates.end(), epochs.begin(), epochs.end());
  candidates.push_back(best_path());
  std::string damage;
  for (const auto& path : candidates) {
    if (!fs::exists(path)) continue;
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
  const auto expected = file.metadata.find(kChecksumKey);
  if (expected == file.metadata.end()) {
    throw std::runtime_error(path.string() + ": not a checkpoint of a training run (it has no checksum)");
  }
  const std::string actual = checksum(file.tensors);
  if (actual != expected->second) {
    throw std::runtime_error(path.string() + ": damaged, its tensors have checksum " + actual + ", expected " +
                             expected->second);
  }
  return {std::move(file.tensors), std::move(file.metadata)};
}

}  // namespace vrwkv::train

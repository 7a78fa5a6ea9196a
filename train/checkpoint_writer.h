#pragma once

#include <cstdint>
#include <future>
#include <optional>
#include <string>

#include "train/checkpoint_store.h"

namespace vrwkv::train {

/// Writes checkpoints while the run goes on. The caller waits for a copy of the tensors in the host's memory, and for
/// the checkpoint before, so that there is one copy at most; a thread does the rest.
class CheckpointWriter {
 public:
  enum class As { last, best };  ///< CheckpointStore's save_last() or save_best().

  /// `store` outlives this.
  explicit CheckpointWriter(CheckpointStore& store) : store_(store) {}

  /// Waits for the write under way; its failure is logged, as nobody else can hear of it.
  ~CheckpointWriter();
  CheckpointWriter(const CheckpointWriter&) = delete;
  CheckpointWriter& operator=(const CheckpointWriter&) = delete;

  /// Begins to write `checkpoint`, with `epoch` as the file of that epoch, too. The tensors may change afterwards. May
  /// throw the failure of the write before (std::runtime_error that names file and reason).
  void write(const Checkpoint& checkpoint, As as, std::optional<int64_t> epoch = std::nullopt);

  /// Throws the failure of a write that has ended since the last call, once.
  void check();

  /// Waits until all is on the disk. Throws as check().
  void finish();

  /// How many checkpoints were begun, how long the writing took and how long the callers of write() waited; empty when
  /// there was none.
  std::string summary() const;

 private:
  CheckpointStore& store_;
  std::future<double> pending_;  ///< The seconds that the write takes.
  int64_t begun_ = 0;
  double writing_s_ = 0, stalled_s_ = 0;
};

}  // namespace vrwkv::train

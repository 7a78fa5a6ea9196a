#pragma once

#include <ATen/core/Tensor.h>

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "data/dataset.h"
#include "data/device_stage.h"
#include "data/prepared_sample.h"
#include "data/sample_reader.h"
#include "data/sampler.h"
#include "data/transforms.h"

namespace vrwkv::data {

struct LoaderOptions {
  int64_t batch_size = 1;
  int64_t workers = 0;           ///< Threads; 0: one per core.
  int64_t prefetch_batches = 4;  ///< Batches prepared ahead, at least 1.
  bool pin_memory = false;       ///< Images in pinned memory, where CUDA is there.
  std::uint64_t seed = 0;
  bool shuffle = false;
  bool drop_last = false;
  CorruptPolicy corrupt = CorruptPolicy::fail;
  double max_corrupt_share = 0.001;  ///< skip: highest share of an epoch's images; if above 0, one is always allowed.
  int64_t rank = 0;
  int64_t world_size = 1;
  int64_t repeats = 1;                            ///< SamplerOptions::repeats.
  std::shared_ptr<DeviceStage> device = nullptr;  ///< Does the transform instead of the loader's threads, if set.
};

struct Batch {
  at::Tensor images;               ///< uint8 [B, S, S, 3], on the CPU or LoaderOptions::device.
  at::Tensor labels;               ///< int64 [B].
  std::vector<std::string> names;  ///< EncodedSample::name of each.
  std::vector<int64_t> indices;    ///< Dataset index of each.
  std::vector<int64_t> views;      ///< LoadedSample::view of each.
};

/// Counted since start_epoch, over the batches that next() has returned.
struct LoaderStats {
  double wait_seconds = 0;  ///< Time that the caller spent waiting in next().
  int64_t corrupt = 0;      ///< Distinct images that were skipped.
};

/// Reads, decodes and transforms batches ahead of the caller on threads of its own. The batches of an epoch are a
/// function of (dataset, transform, seed, epoch), whatever the number of workers; what happens to a sample depends on
/// (seed, epoch, its index in the dataset and which of its repeats it is) alone. The loader itself is used from one
/// thread.
class Loader {
 public:
  /// Throws std::invalid_argument for options out of range, UsageError for an empty dataset or fewer images than a
  /// batch with drop_last. `transform` is that of the samples with and without LoaderOptions::device.
  Loader(std::shared_ptr<const Dataset> dataset, Transform transform, const LoaderOptions& options);
  ~Loader();
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  int64_t batches_per_epoch() const { return sampler_.batches_per_epoch(); }

  /// Samples of this rank in an epoch.
  int64_t samples_per_epoch() const { return sampler_.samples_per_epoch(); }

  /// Begins epoch `epoch` at batch `first_batch` (to resume within it); drops whatever was prepared before.
  void start_epoch(int64_t epoch, int64_t first_batch = 0);

  /// The next batch, or nothing at the end of the epoch. Rethrows what failed in a worker when the batch's turn comes;
  /// throws std::runtime_error when more than max_corrupt_share of the images are corrupt. After an error the epoch is
  /// over.
  std::optional<Batch> next();

  LoaderStats stats() const { return stats_; }

 private:
  /// A batch that is being filled. Workers write to different rows of it; the rest is guarded by mutex_.
  struct Slot {
    Batch batch;
    int64_t missing = 0;       ///< Samples still to come.
    std::exception_ptr error;  ///< Of the first failed sample in the batch's order.
    int64_t error_row = 0;
    std::vector<std::vector<CorruptImage>> corrupt;  ///< Per row.
    std::vector<PreparedSample> prepared;            ///< With a device: per row.
    std::vector<int64_t> group_missing;              ///< With a device: samples still to be prepared, per group.
  };

  /// A sample to be loaded into a row of a slot.
  struct Task {
    std::shared_ptr<Slot> slot;
    int64_t row = 0;
    int64_t view = 0;  ///< As Sampler numbers them.
    int64_t epoch = 0;
  };

  void work();
  Task take_task();
  bool task_ready() const;
  void load(const Task& task);
  void deliver(Slot& slot, int64_t row, LoadedSample& sample) const;
  void note_error(Slot& slot, int64_t row, std::exception_ptr error);
  int64_t finished(const Task& task);
  int64_t render_group(const Task& task);
  void add_slots();
  void end_threads();
  void report_corrupt(const Slot& slot);

  const std::shared_ptr<const Dataset> dataset_;
  const Transform transform_;
  const LoaderOptions options_;
  const Sampler sampler_;
  const bool pin_memory_;

  LoaderStats stats_;
  std::set<int64_t> corrupt_;  ///< Dataset indices skipped in this epoch.
  bool started_ = false;

  std::mutex mutex_;
  std::condition_variable work_ready_;
  std::condition_variable batch_ready_;
  // Guarded by mutex_ from here on.
  bool stopping_ = false;
  int64_t epoch_ = 0;
  std::vector<int64_t> order_;               ///< The views of this rank's epoch, as Sampler numbers them.
  std::deque<std::shared_ptr<Slot>> slots_;  ///< The batches after the last returned one, in order.
  int64_t first_slot_ = 0;                   ///< Batch number of slots_.front().
  int64_t next_position_ = 0;                ///< Into order_, of the next sample that a worker takes.

  std::vector<std::thread> threads_;  ///< Last: started when everything else is there.
};

}  // namespace vrwkv::data

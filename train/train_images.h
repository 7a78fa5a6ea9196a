#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "config/run_config.h"
#include "data/loader.h"
#include "distributed/world.h"
#include "eval/precision.h"

namespace vrwkv::train {

/// Side in pixels of the training samples of `epoch` (from 0): transform.size, or on the way there.
int64_t sample_size(const data::TrainTransformOptions& transform, int64_t patch_size, int64_t epoch);

/// The batches of data.train, as a task needs them: read, augmented and brought to the device, each time to the same
/// places.
class TrainImages {
 public:
  /// Of several processes, each reads its share of `dataset`.
  TrainImages(const config::RunConfig& config, std::shared_ptr<const data::Dataset> dataset, at::Device device,
              std::shared_ptr<distributed::World> world);

  // As Task has them.
  int64_t batches_per_epoch() const { return loader_->batches_per_epoch(); }
  void start_epoch(int64_t epoch, int64_t first_batch);
  int64_t input_size() const { return input_size_; }
  void fetch(int64_t parts);
  std::vector<std::string> names() const;
  double wait_seconds() const;

  /// Batch `part` of those fetched last, normalised: [B, 3, H, W] in the type of the weights.
  at::Tensor images(int64_t part) const;

  /// Its labels int64 [B], or with mixing float32 [B, classes].
  const at::Tensor& targets(int64_t part) const { return fetched_.at(static_cast<size_t>(part)).targets; }

 private:
  /// A batch on the device. Without augmentation of batches: images uint8 [B, H, W, 3]. With erasing or mixing:
  /// normalised images floating point [B, 3, H, W].
  struct Fetched {
    at::Tensor images, targets;
    std::vector<std::string> names;  ///< Of the files.
  };

  void bring(Fetched& target, const data::Batch& batch, int64_t number) const;

  config::RunConfig config_;
  std::shared_ptr<distributed::World> world_;
  eval::Precision precision_;
  std::shared_ptr<const data::Dataset> dataset_;
  int64_t input_size_;  ///< Side in pixels of the present epoch's samples.
  std::unique_ptr<data::Loader> loader_;
  std::vector<Fetched> fetched_;  ///< Kept, so that their addresses stay.
  int64_t epoch_ = 0, next_batch_ = 0;
  double former_wait_seconds_ = 0;  ///< Of the epochs before the present one.
};

}  // namespace vrwkv::train

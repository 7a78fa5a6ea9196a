#pragma once

#include <memory>

#include "config/run_config.h"
#include "data/loader.h"
#include "distributed/world.h"
#include "eval/evaluator.h"
#include "train/task.h"
#include "vrwkv/vrwkv_classifier.h"

namespace vrwkv::train {

/// Side in pixels of the training samples of `epoch` (from 0): transform.size, or on the way there.
int64_t sample_size(const data::TrainTransformOptions& transform, int64_t patch_size, int64_t epoch);

/// Image classification: a VRWKV with its head, the loss of train.loss, top-1 and top-5.
class ClassificationTask : public Task {
 public:
  /// Opens data.train and data.val and builds the model, its weights drawn from run.seed. Throws UsageError when the
  /// data is missing or its classes do not fit the configuration.
  /// Of several processes, each reads its share of both.
  ClassificationTask(const config::RunConfig& config, at::Device device,
                     std::shared_ptr<distributed::World> world = std::make_shared<distributed::World>());

  torch::nn::Module& model() override { return *model_; }
  int64_t batches_per_epoch() const override { return train_loader_->batches_per_epoch(); }
  void start_epoch(int64_t epoch, int64_t first_batch) override;
  int64_t input_size() const override { return input_size_; }
  void fetch(int64_t parts) override;
  torch::Tensor loss(int64_t part) override;
  std::vector<std::string> batch_names() const override;
  Evaluation evaluate() override;
  double data_wait_seconds() const override;
  std::map<std::string, std::string> metadata() const override;

 private:
  /// A batch on the device. Without augmentation of batches: images uint8 [B, H, W, 3], labels int64 [B]. With erasing
  /// or mixing: normalised images floating point [B, 3, H, W]; with mixing: targets float32 [B, classes] as `labels`.
  struct Fetched {
    torch::Tensor images, labels;
    std::vector<std::string> names;  ///< Of the files.
  };

  void bring(Fetched& target, const data::Batch& batch, int64_t number);

  config::RunConfig config_;
  std::shared_ptr<distributed::World> world_;
  eval::Precision precision_;
  std::shared_ptr<const data::Dataset> train_data_;
  std::unique_ptr<data::Loader> train_loader_, eval_loader_;
  VrwkvClassifier model_{nullptr};
  std::vector<Fetched> fetched_;  ///< Kept, so that their addresses stay.
  int64_t epoch_ = 0, next_batch_ = 0;
  int64_t input_size_;              ///< Side in pixels of the present epoch's samples.
  double former_wait_seconds_ = 0;  ///< Of the epochs before the present one.
};

}  // namespace vrwkv::train

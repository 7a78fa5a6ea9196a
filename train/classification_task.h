#pragma once

#include <memory>

#include "config/run_config.h"
#include "data/loader.h"
#include "distributed/world.h"
#include "eval/evaluator.h"
#include "train/task.h"
#include "train/train_images.h"
#include "vrwkv/vrwkv_classifier.h"

namespace vrwkv::train {

/// Image classification: a VRWKV with its head, the loss of train.loss, top-1 and top-5.
class ClassificationTask : public Task {
 public:
  /// Opens data.train and data.val and builds the model, its weights drawn from run.seed. Throws UsageError when the
  /// data is missing or its classes do not fit the configuration.
  /// Of several processes, each reads its share of both.
  ClassificationTask(const config::RunConfig& config, at::Device device,
                     std::shared_ptr<distributed::World> world = std::make_shared<distributed::World>());

  torch::nn::Module& model() override { return *model_; }
  int64_t batches_per_epoch() const override { return images_->batches_per_epoch(); }
  void start_epoch(int64_t epoch, int64_t first_batch) override { images_->start_epoch(epoch, first_batch); }
  int64_t input_size() const override { return images_->input_size(); }
  void fetch(int64_t parts) override { images_->fetch(parts); }
  torch::Tensor loss(int64_t part) override;
  std::vector<std::string> batch_names() const override { return images_->names(); }
  Evaluation evaluate() override;
  double data_wait_seconds() const override { return images_->wait_seconds(); }
  std::map<std::string, std::string> metadata() const override;

 private:
  config::RunConfig config_;
  std::shared_ptr<distributed::World> world_;
  eval::Precision precision_;
  std::shared_ptr<const data::Dataset> train_data_;
  std::unique_ptr<TrainImages> images_;
  std::unique_ptr<data::Loader> eval_loader_;
  VrwkvClassifier model_{nullptr};
};

}  // namespace vrwkv::train

#pragma once

#include <memory>

#include "config/run_config.h"
#include "data/loader.h"
#include "distributed/world.h"
#include "eval/precision.h"
#include "train/task.h"
#include "train/train_images.h"
#include "vrwkv/masked_autoencoder.h"

namespace vrwkv::train {

/// Masked autoencoding: images without their labels. The mask of a step is drawn on the device from the step's own
/// random numbers; that of an evaluation is the same every time, so losses compare.
class MaeTask : public Task {
 public:
  /// Opens data.train and data.val and builds the model, its weights drawn from run.seed. Throws UsageError when the
  /// data is missing. Of several processes, each reads its share of both.
  MaeTask(const config::RunConfig& config, at::Device device,
          std::shared_ptr<distributed::World> world = std::make_shared<distributed::World>());

  torch::nn::Module& model() override { return *model_; }
  int64_t batches_per_epoch() const override { return images_->batches_per_epoch(); }
  void start_epoch(int64_t epoch, int64_t first_batch) override { images_->start_epoch(epoch, first_batch); }
  int64_t input_size() const override { return images_->input_size(); }
  void fetch(int64_t parts) override { images_->fetch(parts); }
  torch::Tensor loss(int64_t part) override;
  std::vector<std::string> batch_names() const override { return images_->names(); }

  /// The mean loss of data.val; the least is the best.
  Evaluation evaluate() override;

  /// Every mae.picture_every epochs and after the last one: reconstructions/epoch_0010.png.
  void draw(const std::filesystem::path& folder, int64_t epochs_done) override;

  double data_wait_seconds() const override { return images_->wait_seconds(); }
  std::map<std::string, std::string> metadata() const override;

 private:
  config::RunConfig config_;
  std::shared_ptr<distributed::World> world_;
  eval::Precision precision_;
  std::shared_ptr<const data::Dataset> val_data_;
  std::unique_ptr<TrainImages> images_;
  std::unique_ptr<data::Loader> eval_loader_;
  MaskedAutoencoder model_{nullptr};
};

}  // namespace vrwkv::train

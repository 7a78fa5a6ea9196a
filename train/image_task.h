#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "config/run_config.h"
#include "data/loader.h"
#include "distributed/world.h"
#include "eval/precision.h"
#include "train/task.h"
#include "train/train_images.h"

namespace vrwkv::train {

/// data.train and data.val.
struct ImageData {
  std::shared_ptr<const data::Dataset> train, val;
};

/// What all tasks on images have in common: their data, and how it comes to the device. Of several processes, each
/// reads its share.
class ImageTask : public Task {
 public:
  int64_t batches_per_epoch() const override { return images_.batches_per_epoch(); }
  void start_epoch(int64_t epoch, int64_t first_batch) override { images_.start_epoch(epoch, first_batch); }
  int64_t input_size() const override { return images_.input_size(); }
  void fetch(int64_t parts) override { images_.fetch(parts); }
  std::vector<std::string> batch_names() const override { return images_.names(); }
  double data_wait_seconds() const override { return images_.wait_seconds(); }

  /// The formula of Bi-WKV.
  std::map<std::string, std::string> metadata() const override;

 protected:
  ImageTask(const config::RunConfig& config, ImageData datasets, at::Device device,
            std::shared_ptr<distributed::World> world);

  const config::RunConfig& config() const { return config_; }
  const ImageData& datasets() const { return datasets_; }
  const TrainImages& images() const { return images_; }
  const eval::Precision& precision() const { return precision_; }
  data::Loader& eval_loader() { return *eval_loader_; }
  distributed::World& world() { return *world_; }

 private:
  config::RunConfig config_;
  std::shared_ptr<distributed::World> world_;
  eval::Precision precision_;
  ImageData datasets_;
  TrainImages images_;
  std::unique_ptr<data::Loader> eval_loader_;
};

}  // namespace vrwkv::train

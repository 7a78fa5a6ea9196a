#pragma once

#include <memory>

#include "train/image_task.h"
#include "vrwkv/vrwkv_classifier.h"

namespace vrwkv::train {

/// Image classification: a VRWKV with its head, the loss of train.loss, top-1 and top-5.
class ClassificationTask : public ImageTask {
 public:
  /// Opens data.train and data.val and builds the model, its weights drawn from run.seed. Throws UsageError when the
  /// data is missing or its classes do not fit the configuration.
  ClassificationTask(const config::RunConfig& config, at::Device device,
                     std::shared_ptr<distributed::World> world = std::make_shared<distributed::World>());

  torch::nn::Module& model() override { return *model_; }
  torch::Tensor loss(int64_t part) override;
  Evaluation evaluate() override;

  /// The class names, too, where the data has them.
  std::map<std::string, std::string> metadata() const override;

 private:
  VrwkvClassifier model_{nullptr};
};

}  // namespace vrwkv::train

#pragma once

#include <memory>

#include "train/image_task.h"
#include "vrwkv/masked_autoencoder.h"

namespace vrwkv::train {

/// Masked autoencoding: images without their labels. The mask of a step is drawn on the device from the step's own
/// random numbers; that of an evaluation is the same every time, so losses compare.
class MaeTask : public ImageTask {
 public:
  /// Opens data.train and data.val and builds the model, its weights drawn from run.seed. Throws UsageError when the
  /// data is missing.
  MaeTask(const config::RunConfig& config, at::Device device,
          std::shared_ptr<distributed::World> world = std::make_shared<distributed::World>());

  torch::nn::Module& model() override { return *model_; }
  torch::Tensor loss(int64_t part) override;

  /// The mean loss of data.val; the least is the best.
  Evaluation evaluate() override;

  /// Every mae.picture_every epochs and after the last one: reconstructions/epoch_0010.png.
  void draw(const std::filesystem::path& folder, int64_t epochs_done) override;

 private:
  MaskedAutoencoder model_{nullptr};
};

}  // namespace vrwkv::train

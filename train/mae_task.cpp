#include "train/mae_task.h"

#include <torch/utils.h>

#include <cmath>
#include <iomanip>
#include <limits>
#include <sstream>

#include "common/log.h"
#include "eval/evaluator.h"
#include "eval/mae_evaluator.h"
#include "eval/reconstruction_picture.h"
#include "vrwkv/checkpoint/weights.h"

namespace vrwkv::train {

MaeTask::MaeTask(const config::RunConfig& config, at::Device device, std::shared_ptr<distributed::World> world)
    : config_(config),
      world_(std::move(world)),
      precision_{device, config.run.dtype},
      val_data_(data::open_dataset(config.data.val)) {
  const auto train_data = data::open_dataset(config.data.train);
  images_ = std::make_unique<TrainImages>(config, train_data, device, world_);
  eval_loader_ = eval::make_eval_loader(config, val_data_, device, *world_);
  torch::manual_seed(static_cast<uint64_t>(config.run.seed));
  model_ = MaskedAutoencoder(MaskedAutoencoderOptions{config.model.backbone, config.mae});
  model_->to(device, eval::weights_dtype(config.run.dtype));
  log::info(std::to_string(train_data->size()) + " training and " + std::to_string(val_data_->size()) +
            " evaluation images, used without labels");
}

torch::Tensor MaeTask::loss(int64_t part) {
  const torch::Tensor images = images_->images(part);
  const torch::Tensor noise = masking_noise(images.size(0), model_->grid(images).tokens(), images.device());
  const eval::PrecisionGuard precision(precision_);
  return model_(images, noise).error.mean();
}

Evaluation MaeTask::evaluate() {
  const eval::ReconstructionLoss found =
      eval::evaluate_autoencoder(model_, *eval_loader_, config_.data.normalize, precision_, *world_);
  // What is not finite is no best.
  const double score = std::isfinite(found.loss) ? -found.loss : -std::numeric_limits<double>::infinity();
  return {{{"images", static_cast<double>(found.images)}, {"loss", found.loss}}, score, eval::summary_line(found)};
}

void MaeTask::draw(const std::filesystem::path& folder, int64_t epochs_done) {
  const config::PictureOptions& options = config_.pictures;
  if (options.every == 0) return;
  if (epochs_done % options.every != 0 && epochs_done != config_.train.epochs) return;
  std::ostringstream name;
  name << "epoch_" << std::setw(4) << std::setfill('0') << epochs_done << ".png";
  std::filesystem::create_directories(folder / "reconstructions");
  eval::draw_reconstructions(model_, eval::first_views(*val_data_, options.images, config_.data.eval_transform),
                             config_.data.normalize, precision_, folder / "reconstructions" / name.str());
}

std::map<std::string, std::string> MaeTask::metadata() const {
  const bool published = config_.model.backbone.wkv == WkvFormula::published;
  return {{kWkvKey, published ? kWkvPublished : kWkvPaper}};
}

}  // namespace vrwkv::train

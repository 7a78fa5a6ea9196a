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

namespace vrwkv::train {

MaeTask::MaeTask(const config::RunConfig& config, at::Device device, std::shared_ptr<distributed::World> world)
    : ImageTask(config, {data::open_dataset(config.data.train), data::open_dataset(config.data.val)}, device,
                std::move(world)) {
  torch::manual_seed(static_cast<uint64_t>(config.run.seed));
  model_ = MaskedAutoencoder(MaskedAutoencoderOptions{config.model.backbone, config.mae});
  model_->to(device, eval::weights_dtype(config.run.dtype));
  log::info(std::to_string(datasets().train->size()) + " training and " + std::to_string(datasets().val->size()) +
            " evaluation images, used without labels");
}

torch::Tensor MaeTask::loss(int64_t part) {
  const torch::Tensor batch = images().images(part);
  const torch::Tensor noise = masking_noise(batch.size(0), model_->grid(batch).tokens(), batch.device());
  const eval::PrecisionGuard guard(precision());
  return model_(batch, noise).error.mean();
}

Evaluation MaeTask::evaluate() {
  const eval::ReconstructionLoss found =
      eval::evaluate_autoencoder(model_, eval_loader(), config().data.normalize, precision(), world());
  // What is not finite is no best.
  const double score = std::isfinite(found.loss) ? -found.loss : -std::numeric_limits<double>::infinity();
  return {{{"images", static_cast<double>(found.images)}, {"loss", found.loss}}, score, eval::summary_line(found)};
}

void MaeTask::draw(const std::filesystem::path& folder, int64_t epochs_done) {
  const config::PictureOptions& options = config().pictures;
  if (options.every == 0) return;
  if (epochs_done % options.every != 0 && epochs_done != config().train.epochs) return;
  std::ostringstream name;
  name << "epoch_" << std::setw(4) << std::setfill('0') << epochs_done << ".png";
  std::filesystem::create_directories(folder / "reconstructions");
  eval::draw_reconstructions(model_, eval::first_views(*datasets().val, options.images, config().data.eval_transform),
                             config().data.normalize, precision(), folder / "reconstructions" / name.str());
}

}  // namespace vrwkv::train

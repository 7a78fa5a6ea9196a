#include "eval/reconstruct_files.h"

#include <ATen/ATen.h>

#include <stdexcept>

#include "common/errors.h"
#include "common/log.h"
#include "data/read_image.h"
#include "data/transforms.h"
#include "eval/load_classifier.h"
#include "eval/reconstruction_picture.h"

namespace vrwkv::eval {

void check_task(const PredictFlags& flags, const config::RunConfig& config) {
  const bool is_mae = config.task == config::TaskName::mae;
  if (is_mae && flags.reconstruct.empty()) {
    throw UsageError(flags.config +
                     " says task: mae, which predicts no classes; add --reconstruct FILE.png, or name the "
                     "configuration of a classifier");
  }
  if (!is_mae && !flags.reconstruct.empty()) {
    throw UsageError("--reconstruct needs a configuration with task: mae, but " + flags.config +
                     " is of a classifier; name the one that the autoencoder was trained with");
  }
}

bool reconstruct_files(const PredictFlags& flags, const config::RunConfig& config, const ModelWeights& weights,
                       const Precision& precision, const std::function<void(const std::string& message)>& unreadable) {
  const MaskedAutoencoder model =
      load_autoencoder({config.model.backbone, config.mae}, weights, flags.checkpoint, precision);
  std::vector<at::Tensor> views;
  for (const std::string& path : flags.images) {
    try {
      views.push_back(data::eval_view(data::read_image(path), config.data.eval_transform));
    } catch (const data::ImageError& error) {
      unreadable(error.what());
    }
  }
  if (views.empty()) throw std::runtime_error("none of the images could be read, so there is nothing to reconstruct");
  draw_reconstructions(model, at::stack(views), config.data.normalize, precision, flags.reconstruct);
  log::info(flags.reconstruct + " written");
  return views.size() == flags.images.size();
}

}  // namespace vrwkv::eval

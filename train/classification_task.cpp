#include "train/classification_task.h"

#include <torch/utils.h>

#include "common/log.h"
#include "eval/check_classes.h"
#include "eval/evaluator.h"
#include "eval/report.h"
#include "train/classification_loss.h"
#include "vrwkv/checkpoint/weights.h"

namespace vrwkv::train {

namespace {

ImageData open_labelled(const config::RunConfig& config) {
  ImageData opened{data::open_dataset(config.data.train), data::open_dataset(config.data.val)};
  eval::check_classes(*opened.train, "data.train", config, nullptr);
  data::check_same_classes(*opened.train, *opened.val);
  return opened;
}

}  // namespace

ClassificationTask::ClassificationTask(const config::RunConfig& config, at::Device device,
                                       std::shared_ptr<distributed::World> world)
    : ImageTask(config, open_labelled(config), device, std::move(world)) {
  torch::manual_seed(static_cast<uint64_t>(config.run.seed));
  model_ = VrwkvClassifier(config.model);
  model_->to(device, eval::weights_dtype(config.run.dtype));
  log::info(std::to_string(datasets().train->size()) + " training and " + std::to_string(datasets().val->size()) +
            " evaluation images of " + std::to_string(datasets().train->classes().size()) + " classes");
}

torch::Tensor ClassificationTask::loss(int64_t part) {
  const torch::Tensor batch = images().images(part);
  const eval::PrecisionGuard guard(precision());
  return classification_loss(model_(batch), images().targets(part), config().train.loss,
                             config().train.label_smoothing);
}

Evaluation ClassificationTask::evaluate() {
  const eval::Accuracy accuracy = eval::evaluate(model_, eval_loader(), config().data.normalize, precision(), world());
  return {{{"images", static_cast<double>(accuracy.images)},
           {"loss", accuracy.loss},
           {"top1", accuracy.top1()},
           {"top5", accuracy.top5()}},
          accuracy.top1(),
          eval::summary_line(accuracy)};
}

std::map<std::string, std::string> ClassificationTask::metadata() const {
  std::map<std::string, std::string> metadata = ImageTask::metadata();
  if (datasets().train->has_class_names()) metadata.emplace(kClassesKey, classes_to_json(datasets().train->classes()));
  return metadata;
}

}  // namespace vrwkv::train

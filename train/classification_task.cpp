#include "train/classification_task.h"

#include <torch/utils.h>

#include "common/log.h"
#include "eval/check_classes.h"
#include "eval/report.h"
#include "train/classification_loss.h"
#include "vrwkv/checkpoint/weights.h"

namespace vrwkv::train {

ClassificationTask::ClassificationTask(const config::RunConfig& config, at::Device device,
                                       std::shared_ptr<distributed::World> world)
    : config_(config),
      world_(std::move(world)),
      precision_{device, config.run.dtype},
      train_data_(data::open_dataset(config.data.train)) {
  const auto val_data = data::open_dataset(config.data.val);
  eval::check_classes(*train_data_, "data.train", config, nullptr);
  data::check_same_classes(*train_data_, *val_data);
  images_ = std::make_unique<TrainImages>(config, train_data_, device, world_);
  eval_loader_ = eval::make_eval_loader(config, val_data, device, *world_);
  torch::manual_seed(static_cast<uint64_t>(config.run.seed));
  model_ = VrwkvClassifier(config.model);
  model_->to(device, eval::weights_dtype(config.run.dtype));
  log::info(std::to_string(train_data_->size()) + " training and " + std::to_string(val_data->size()) +
            " evaluation images of " + std::to_string(train_data_->classes().size()) + " classes");
}

torch::Tensor ClassificationTask::loss(int64_t part) {
  const torch::Tensor images = images_->images(part);
  const eval::PrecisionGuard precision(precision_);
  return classification_loss(model_(images), images_->targets(part), config_.train.loss, config_.train.label_smoothing);
}

Evaluation ClassificationTask::evaluate() {
  const eval::Accuracy accuracy = eval::evaluate(model_, *eval_loader_, config_.data.normalize, precision_, *world_);
  return {{{"images", static_cast<double>(accuracy.images)},
           {"loss", accuracy.loss},
           {"top1", accuracy.top1()},
           {"top5", accuracy.top5()}},
          accuracy.top1(),
          eval::summary_line(accuracy)};
}

std::map<std::string, std::string> ClassificationTask::metadata() const {
  const bool published = config_.model.backbone.wkv == WkvFormula::published;
  std::map<std::string, std::string> metadata{{kWkvKey, published ? kWkvPublished : kWkvPaper}};
  if (train_data_->has_class_names()) metadata.emplace(kClassesKey, classes_to_json(train_data_->classes()));
  return metadata;
}

}  // namespace vrwkv::train

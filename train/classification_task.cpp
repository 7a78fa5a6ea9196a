#include "train/classification_task.h"

#include <torch/utils.h>

#include <stdexcept>

#include "common/log.h"
#include "data/batch_augment/augment_batch.h"
#include "data/transforms.h"
#include "eval/check_classes.h"
#include "eval/report.h"
#include "train/batch_split.h"
#include "train/classification_loss.h"
#include "vrwkv/checkpoint/weights.h"

namespace vrwkv::train {
namespace {

std::unique_ptr<data::Loader> make_train_loader(const config::RunConfig& config,
                                                std::shared_ptr<const data::Dataset> dataset, at::Device device,
                                                const distributed::World& world, int64_t size) {
  data::LoaderOptions options;
  options.batch_size = split_batch(config.train, world.size()).part;
  options.rank = world.rank();
  options.world_size = world.size();
  options.workers = eval::loader_workers(config, world);
  options.prefetch_batches = config.data.prefetch_batches;
  options.pin_memory = device.is_cuda();
  options.seed = static_cast<uint64_t>(config.run.seed);
  options.shuffle = true;
  options.drop_last = true;
  options.repeats = config.data.repeats;
  options.corrupt = data::CorruptPolicy::skip;
  options.max_corrupt_share = config.data.max_corrupt_share;
  data::TrainTransformOptions transform = config.data.train_transform;
  transform.size = size;
  return std::make_unique<data::Loader>(std::move(dataset), data::train_transform(transform), options);
}

}  // namespace

int64_t sample_size(const data::TrainTransformOptions& transform, int64_t patch_size, int64_t epoch) {
  const auto& [start, epochs] = transform.progressive;
  if (start == 0 || epoch >= epochs) return transform.size;
  return start + (transform.size - start) * epoch / epochs / patch_size * patch_size;
}

ClassificationTask::ClassificationTask(const config::RunConfig& config, at::Device device,
                                       std::shared_ptr<distributed::World> world)
    : config_(config),
      world_(std::move(world)),
      precision_{device, config.run.dtype},
      train_data_(data::open_dataset(config.data.train)),
      input_size_(sample_size(config.data.train_transform, config.model.backbone.patch_size, 0)) {
  const auto val_data = data::open_dataset(config.data.val);
  eval::check_classes(*train_data_, "data.train", config, nullptr);
  data::check_same_classes(*train_data_, *val_data);
  train_loader_ = make_train_loader(config, train_data_, device, *world_, input_size_);
  eval_loader_ = eval::make_eval_loader(config, val_data, device, *world_);
  torch::manual_seed(static_cast<uint64_t>(config.run.seed));
  model_ = VrwkvClassifier(config.model);
  model_->to(device, eval::weights_dtype(config.run.dtype));
  log::info(std::to_string(train_data_->size()) + " training and " + std::to_string(val_data->size()) +
            " evaluation images of " + std::to_string(train_data_->classes().size()) + " classes");
}

void ClassificationTask::start_epoch(int64_t epoch, int64_t first_batch) {
  former_wait_seconds_ += train_loader_->stats().wait_seconds;
  const int64_t size = sample_size(config_.data.train_transform, config_.model.backbone.patch_size, epoch);
  if (size != input_size_) {
    input_size_ = size;
    train_loader_.reset();  // Its threads first.
    train_loader_ = make_train_loader(config_, train_data_, precision_.device, *world_, size);
    fetched_.clear();
  }
  train_loader_->start_epoch(epoch, first_batch);
  epoch_ = epoch;
  next_batch_ = first_batch;
}

void ClassificationTask::fetch(int64_t parts) {
  fetched_.resize(static_cast<size_t>(parts));
  for (Fetched& target : fetched_) {
    auto batch = train_loader_->next();
    if (!batch) throw std::logic_error("ClassificationTask::fetch: the epoch has no further batch");
    bring(target, *batch, world_->size() * next_batch_++ + world_->rank());
    target.names = std::move(batch->names);
  }
}

void ClassificationTask::bring(Fetched& target, const data::Batch& batch, int64_t number) {
  const auto put = [this](torch::Tensor& to, const torch::Tensor& from) {
    if (!to.defined()) to = torch::empty_like(from, from.options().device(precision_.device).pinned_memory(false));
    to.copy_(from, /*non_blocking=*/true);
  };
  if (!data::augments_batches(config_.data)) {
    put(target.images, batch.images);
    put(target.labels, batch.labels);
    return;
  }
  const torch::Tensor images = data::normalize(batch.images.to(precision_.device, /*non_blocking=*/true),
                                               config_.data.normalize, eval::weights_dtype(precision_.dtype));
  const data::BatchPlace place{static_cast<uint64_t>(config_.run.seed), epoch_, number};
  const data::AugmentedBatch augmented =
      data::augment_batch(images, batch.labels.to(precision_.device, /*non_blocking=*/true), batch.views, config_.data,
                          config_.model.num_classes, place);
  put(target.images, augmented.images);
  put(target.labels, augmented.targets);
}

torch::Tensor ClassificationTask::loss(int64_t part) {
  const Fetched& batch = fetched_.at(static_cast<size_t>(part));
  const bool augmented = batch.images.is_floating_point();  // Then they are normalised, too.
  const torch::Tensor images =
      augmented ? batch.images
                : data::normalize(batch.images, config_.data.normalize, eval::weights_dtype(precision_.dtype));
  const eval::PrecisionGuard precision(precision_);
  return classification_loss(model_(images), batch.labels, config_.train.loss, config_.train.label_smoothing);
}

std::vector<std::string> ClassificationTask::batch_names() const {
  std::vector<std::string> names;
  for (const Fetched& part : fetched_) names.insert(names.end(), part.names.begin(), part.names.end());
  return names;
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

double ClassificationTask::data_wait_seconds() const {
  return former_wait_seconds_ + train_loader_->stats().wait_seconds;
}

std::map<std::string, std::string> ClassificationTask::metadata() const {
  const bool published = config_.model.backbone.wkv == WkvFormula::published;
  std::map<std::string, std::string> metadata{{kWkvKey, published ? kWkvPublished : kWkvPaper}};
  if (train_data_->has_class_names()) metadata.emplace(kClassesKey, classes_to_json(train_data_->classes()));
  return metadata;
}

}  // namespace vrwkv::train

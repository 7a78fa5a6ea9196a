#include "train/train_images.h"

#include <ATen/Functions.h>

#include <stdexcept>
#include <utility>

#include "data/batch_augment/augment_batch.h"
#include "data/gpu/make_stage.h"
#include "data/transforms.h"
#include "eval/evaluator.h"
#include "train/batch_split.h"

namespace vrwkv::train {
namespace {

std::unique_ptr<data::Loader> make_loader(const config::RunConfig& config, std::shared_ptr<const data::Dataset> dataset,
                                          at::Device device, const distributed::World& world, int64_t size) {
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
  options.device = data::gpu::make_stage(config.data, size, device);
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

TrainImages::TrainImages(const config::RunConfig& config, std::shared_ptr<const data::Dataset> dataset,
                         at::Device device, std::shared_ptr<distributed::World> world)
    : config_(config),
      world_(std::move(world)),
      precision_{device, config.run.dtype},
      dataset_(std::move(dataset)),
      input_size_(sample_size(config.data.train_transform, config.model.backbone.patch_size, 0)),
      loader_(make_loader(config, dataset_, device, *world_, input_size_)) {}

void TrainImages::start_epoch(int64_t epoch, int64_t first_batch) {
  former_wait_seconds_ += loader_->stats().wait_seconds;
  const int64_t size = sample_size(config_.data.train_transform, config_.model.backbone.patch_size, epoch);
  if (size != input_size_) {
    input_size_ = size;
    loader_.reset();  // Its threads first.
    loader_ = make_loader(config_, dataset_, precision_.device, *world_, size);
    fetched_.clear();
  }
  loader_->start_epoch(epoch, first_batch);
  epoch_ = epoch;
  next_batch_ = first_batch;
}

void TrainImages::fetch(int64_t parts) {
  fetched_.resize(static_cast<size_t>(parts));
  for (Fetched& target : fetched_) {
    auto batch = loader_->next();
    if (!batch) throw std::logic_error("TrainImages::fetch: the epoch has no further batch");
    bring(target, *batch, world_->size() * next_batch_++ + world_->rank());
    target.names = std::move(batch->names);
  }
}

void TrainImages::bring(Fetched& target, const data::Batch& batch, int64_t number) const {
  const auto put = [this](at::Tensor& to, const at::Tensor& from) {
    if (!to.defined()) to = at::empty_like(from, from.options().device(precision_.device).pinned_memory(false));
    to.copy_(from, /*non_blocking=*/true);
  };
  if (!data::augments_batches(config_.data)) {
    put(target.images, batch.images);
    put(target.targets, batch.labels);
    return;
  }
  const at::Tensor normalized = data::normalize(batch.images.to(precision_.device, /*non_blocking=*/true),
                                                config_.data.normalize, eval::weights_dtype(precision_.dtype));
  const data::BatchPlace place{static_cast<uint64_t>(config_.run.seed), epoch_, number};
  const data::AugmentedBatch augmented =
      data::augment_batch(normalized, batch.labels.to(precision_.device, /*non_blocking=*/true), batch.views,
                          config_.data, config_.model.num_classes, place);
  put(target.images, augmented.images);
  put(target.targets, augmented.targets);
}

at::Tensor TrainImages::images(int64_t part) const {
  const at::Tensor& images = fetched_.at(static_cast<size_t>(part)).images;
  if (images.is_floating_point()) return images;  // Augmented, and normalised for that.
  return data::normalize(images, config_.data.normalize, eval::weights_dtype(precision_.dtype));
}

std::vector<std::string> TrainImages::names() const {
  std::vector<std::string> names;
  for (const Fetched& part : fetched_) names.insert(names.end(), part.names.begin(), part.names.end());
  return names;
}

double TrainImages::wait_seconds() const { return former_wait_seconds_ + loader_->stats().wait_seconds; }

}  // namespace vrwkv::train

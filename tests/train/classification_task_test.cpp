#include "train/classification_task.h"

#include <gtest/gtest.h>

#include "data/batch_augment/augment_batch.h"
#include "train/classification_loss.h"

namespace vrwkv::train {
namespace {

/// A small model on synthetic images.
config::RunConfig small_config() {
  config::RunConfig config;
  config.model.num_classes = 3;
  config.model.backbone.img_size = 32;
  config.model.backbone.embed_dims = 16;
  config.model.backbone.depth = 1;
  for (data::DatasetOptions* dataset : {&config.data.train, &config.data.val}) {
    dataset->format = data::DatasetFormat::synthetic;
    dataset->synthetic = {.images = 13, .classes = 3, .size = 40};
  }
  config.data.train_transform.size = 32;
  config.data.eval_transform = {.resize = 32, .size = 32};
  config.data.workers = 1;
  config.train.batch_size = 4;
  config.train.label_smoothing = 0.1;
  config.run.seed = 6;
  return config;
}

/// Losses of the batches of an epoch from `first` on, two at a time where there are as many.
std::vector<double> losses_of(ClassificationTask& task, int64_t epoch, int64_t first) {
  const at::NoGradGuard no_grad;
  std::vector<double> losses;
  task.start_epoch(epoch, first);
  while (first < task.batches_per_epoch()) {
    const int64_t parts = std::min<int64_t>(2, task.batches_per_epoch() - first);
    task.fetch(parts);
    for (int64_t part = 0; part < parts; ++part) losses.push_back(task.loss(part).item<double>());
    first += parts;
  }
  return losses;
}

/// The same from a loader of its own, step by step.
std::vector<double> expected_losses(ClassificationTask& task, const config::RunConfig& config, int64_t epoch) {
  const at::NoGradGuard no_grad;
  data::Loader loader(
      data::open_dataset(config.data.train), data::train_transform(config.data.train_transform),
      {.batch_size = 4, .workers = 2, .seed = 6, .shuffle = true, .drop_last = true, .repeats = config.data.repeats});
  auto& model = dynamic_cast<VrwkvClassifierImpl&>(task.model());
  loader.start_epoch(epoch);
  std::vector<double> losses;
  for (int64_t number = 0; const auto batch = loader.next(); ++number) {
    const at::Tensor images = data::normalize(batch->images, config.data.normalize, at::kFloat);
    const data::AugmentedBatch augmented =
        data::augment_batch(images, batch->labels, batch->views, config.data, 3, {6, epoch, number});
    losses.push_back(
        classification_loss(model.forward(augmented.images), augmented.targets, config.train.loss, 0.1).item<double>());
  }
  return losses;
}

TEST(ClassificationTask, SamplesGrowToTheirFullSize) {
  data::TrainTransformOptions transform;
  transform.size = 224;
  EXPECT_EQ(sample_size(transform, 16, 0), 224);
  transform.progressive = {.start_size = 128, .epochs = 4};
  std::vector<int64_t> sizes;
  for (int64_t epoch = 0; epoch < 6; ++epoch) sizes.push_back(sample_size(transform, 16, epoch));
  EXPECT_EQ(sizes, (std::vector<int64_t>{128, 144, 176, 192, 224, 224}));
}

TEST(ClassificationTask, FetchesWhatTheAugmentationMakes) {
  config::RunConfig plain = small_config(), erased = small_config(), mixed = small_config(), all = small_config();
  erased.data.train_transform.erasing.prob = 0.8;
  mixed.data.mix = {.mixup_alpha = 0.8, .cutmix_alpha = 1.0};
  all.data.train_transform.rand_augment.num_ops = 2;
  all.data.train_transform.erasing.prob = 0.8;
  all.data.mix = {.mixup_alpha = 0.8, .cutmix_alpha = 1.0, .mode = data::MixMode::element};
  all.data.repeats = 3;
  std::set<double> first_losses;
  for (const auto& config : {plain, erased, mixed, all}) {
    ClassificationTask task(config, at::kCPU);
    const std::vector<double> losses = losses_of(task, 1, 0);
    EXPECT_EQ(losses, expected_losses(task, config, 1));
    EXPECT_EQ(losses.size(), 3U);
    first_losses.insert(losses.at(0));
    // Resumed in the epoch's midst.
    EXPECT_EQ(losses_of(task, 1, 1), (std::vector<double>{losses.at(1), losses.at(2)}));
    EXPECT_NE(losses_of(task, 2, 0), losses);
  }
  EXPECT_EQ(first_losses.size(), 4U);  // each of them does something
}

}  // namespace
}  // namespace vrwkv::train

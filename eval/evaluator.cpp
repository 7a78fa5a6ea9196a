#include "eval/evaluator.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>

#include "data/transforms.h"

namespace vrwkv::eval {
namespace {

/// Labels are checked here, on the CPU: out of range on a GPU they would end the whole process.
void check_labels(const data::Batch& batch, int64_t classes) {
  const auto labels = batch.labels.accessor<int64_t, 1>();
  for (int64_t i = 0; i < labels.size(0); ++i) {
    if (labels[i] >= 0 && labels[i] < classes) continue;
    throw std::runtime_error(batch.names[static_cast<std::size_t>(i)] + ": its label " + std::to_string(labels[i]) +
                             " is not one of the model's " + std::to_string(classes) + " classes (from 0 on)");
  }
}

}  // namespace

int64_t loader_workers(const config::RunConfig& config, const distributed::World& world) {
  if (config.data.workers > 0) return config.data.workers;
  return std::max<int64_t>(1, static_cast<int64_t>(std::thread::hardware_concurrency()) / world.local_size());
}

std::unique_ptr<data::Loader> make_eval_loader(const config::RunConfig& config,
                                               std::shared_ptr<const data::Dataset> dataset, at::Device device,
                                               const distributed::World& world) {
  data::LoaderOptions options;
  options.batch_size = config.eval.batch_size;
  options.workers = loader_workers(config, world);
  options.prefetch_batches = config.data.prefetch_batches;
  options.pin_memory = device.is_cuda();
  options.rank = world.rank();
  options.world_size = world.size();
  return std::make_unique<data::Loader>(std::move(dataset), data::eval_transform(config.data.eval_transform), options);
}

at::Tensor to_device(const data::Batch& batch, const data::NormalizeOptions& normalize, const Precision& precision) {
  return data::normalize(batch.images.to(precision.device, /*non_blocking=*/true), normalize,
                         weights_dtype(precision.dtype));
}

EvaluationMode::EvaluationMode(torch::nn::Module& module) : module_(module), was_training_(module.is_training()) {
  module_.eval();
}

EvaluationMode::~EvaluationMode() { module_.train(was_training_); }

Accuracy evaluate(VrwkvClassifier model, data::Loader& loader, const data::NormalizeOptions& normalize,
                  const Precision& precision, distributed::World& world) {
  const EvaluationMode evaluation_mode(*model);
  const at::NoGradGuard no_grad;
  const int64_t classes = model->options().num_classes;
  AccuracyMeter meter(classes, precision.device);
  const PrecisionGuard guard(precision);
  loader.start_epoch(0);
  while (const auto batch = loader.next()) {
    check_labels(*batch, classes);
    const at::Tensor labels = batch->labels.to(precision.device, /*non_blocking=*/true);
    meter.update(model->forward(to_device(*batch, normalize, precision)), labels);
  }
  meter.add_up(world);
  return meter.result();
}

Accuracy evaluate(VrwkvClassifier model, data::Loader& loader, const data::NormalizeOptions& normalize,
                  const Precision& precision) {
  distributed::World alone;
  return evaluate(std::move(model), loader, normalize, precision, alone);
}

}  // namespace vrwkv::eval

#include "eval/evaluator.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <limits>
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

/// Logits; with `flip` the logarithm of the mean probabilities of both views, whose own errors then cancel in part.
at::Tensor predict(VrwkvClassifier& model, const at::Tensor& images, bool flip) {
  const at::Tensor logits = model->forward(images);
  if (!flip) return logits;
  const at::Tensor mirrored = model->forward(images.flip(3));
  return ((logits.to(at::kDouble).softmax(1) + mirrored.to(at::kDouble).softmax(1)) / 2).log();
}

/// What is right in a batch, for the rows that count.
struct Answers {
  at::Tensor rows;   ///< int64 [R]
  at::Tensor right;  ///< bool [R, classes]
};

Answers answers_of(const data::Batch& batch, const LabelSet& labels, int64_t classes) {
  const auto label = batch.labels.accessor<int64_t, 1>();
  std::vector<int64_t> rows;
  at::Tensor right = at::zeros({label.size(0), classes}, at::kBool);
  auto cell = right.accessor<bool, 2>();
  for (int64_t i = 0; i < label.size(0); ++i) {
    const std::vector<int64_t>& found = labels.right(label[i], batch.names[static_cast<std::size_t>(i)]);
    for (const int64_t of_image : found) cell[std::ssize(rows)][of_image] = true;
    if (!found.empty()) rows.push_back(i);
  }
  return {at::tensor(rows, at::kLong), right.slice(0, 0, std::ssize(rows))};
}

/// The logits of the classes that count; -inf for the others.
at::Tensor only(const at::Tensor& logits, const std::vector<int64_t>& classes) {
  const at::Tensor index = at::tensor(classes, at::kLong).to(logits.device());
  return at::full_like(logits, -std::numeric_limits<double>::infinity())
      .index_copy_(1, index, logits.index_select(1, index));
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
                  const Precision& precision, distributed::World& world, const EvaluationOptions& options) {
  const EvaluationMode evaluation_mode(*model);
  const at::NoGradGuard no_grad;
  const int64_t classes = model->options().num_classes;
  AccuracyMeter meter(classes, precision.device, options.labels != nullptr ? options.data_classes : 0);
  const PrecisionGuard guard(precision);
  loader.start_epoch(0);
  while (const auto batch = loader.next()) {
    if (options.labels == nullptr) check_labels(*batch, classes);
    at::Tensor logits = predict(model, to_device(*batch, normalize, precision), options.flip);
    at::Tensor labels = batch->labels.to(precision.device, /*non_blocking=*/true);
    if (options.labels == nullptr) {
      meter.update(logits, labels);
    } else {
      const Answers answers = answers_of(*batch, *options.labels, classes);
      const at::Tensor rows = answers.rows.to(precision.device);
      logits = logits.index_select(0, rows);
      labels = labels.index_select(0, rows);
      if (!options.labels->only().empty()) logits = only(logits, options.labels->only());
      meter.update(logits, answers.right.to(precision.device), labels);
    }
    if (options.confusion != nullptr) options.confusion->update(logits, labels);
  }
  meter.add_up(world);
  if (options.confusion != nullptr) options.confusion->add_up(world);
  return meter.result();
}

Accuracy evaluate(VrwkvClassifier model, data::Loader& loader, const data::NormalizeOptions& normalize,
                  const Precision& precision) {
  distributed::World alone;
  return evaluate(std::move(model), loader, normalize, precision, alone);
}

}  // namespace vrwkv::eval

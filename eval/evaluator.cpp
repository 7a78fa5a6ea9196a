#include "eval/evaluator.h"

#include <ATen/ATen.h>

#include <optional>

#include "data/transforms.h"
#include "vrwkv/autocast.h"

namespace vrwkv::eval {

at::ScalarType weights_dtype(config::Dtype dtype) {
  return dtype == config::Dtype::float64 ? at::kDouble : at::kFloat;
}

at::Tensor to_device(const data::Batch& batch, const data::NormalizeOptions& normalize, const Precision& precision) {
  const at::Tensor images = batch.images.to(precision.device, /*non_blocking=*/true);
  return data::normalize(images, normalize, weights_dtype(precision.dtype));
}

at::Tensor predict(VrwkvClassifier& model, const at::Tensor& images, const Precision& precision) {
  const at::NoGradGuard no_grad;
  std::optional<AutocastGuard> autocast;
  if (precision.dtype == config::Dtype::bfloat16) autocast.emplace(precision.device.type(), at::kBFloat16);
  return model(images).to(weights_dtype(precision.dtype));
}

Accuracy evaluate(VrwkvClassifier& model, data::Loader& loader, const data::NormalizeOptions& normalize,
                  const Precision& precision) {
  const bool was_training = model->is_training();
  model->eval();
  AccuracyCounter counter(model->options().num_classes, precision.device);
  loader.start_epoch(0);
  while (const auto batch = loader.next()) {
    const at::Tensor labels = batch->labels.to(precision.device, /*non_blocking=*/true);
    counter.add(predict(model, to_device(*batch, normalize, precision), precision), labels);
  }
  model->train(was_training);
  return counter.result();
}

std::unique_ptr<data::Loader> make_eval_loader(const config::RunConfig& config, std::shared_ptr<const data::Dataset> dataset,
                                               at::Device device) {
  data::LoaderOptions options;
  options.batch_size = config.eval.batch_size;
  options.workers = config.data.workers;
  options.prefetch_batches = config.data.prefetch_batches;
  options.pin_memory = device.is_cuda();
  options.corrupt = data::CorruptPolicy::fail;
  return std::make_unique<data::Loader>(std::move(dataset), data::eval_transform(config.data.eval_transform), options);
}

}  // namespace vrwkv::eval

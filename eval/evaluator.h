#pragma once

#include "config/run_config.h"
#include "data/loader.h"
#include "eval/metrics/accuracy.h"
#include "vrwkv/vrwkv_classifier.h"

namespace vrwkv::eval {

/// How a model is run.
struct Precision {
  at::Device device;
  config::Dtype dtype;
};

/// The dtype of weights and inputs: bfloat16 computes under autocast with float32 weights.
at::ScalarType weights_dtype(config::Dtype dtype);

/// A batch's images on the device, normalised: [B, 3, S, S] in the dtype of the weights.
at::Tensor to_device(const data::Batch& batch, const data::NormalizeOptions& normalize, const Precision& precision);

/// Logits of normalised images [B, 3, H, W] without a graph, under autocast for bfloat16; in float64 or float32.
at::Tensor predict(VrwkvClassifier& model, const at::Tensor& images, const Precision& precision);

/// Every image of the loader's epoch 0 once, the model in evaluation mode; its former mode is restored.
Accuracy evaluate(VrwkvClassifier& model, data::Loader& loader, const data::NormalizeOptions& normalize,
                  const Precision& precision);

/// A loader over data.val in the dataset's order; a corrupt image ends the evaluation with an error that names it.
std::unique_ptr<data::Loader> make_eval_loader(const config::RunConfig& config, std::shared_ptr<const data::Dataset> dataset,
                                               at::Device device);

}  // namespace vrwkv::eval

#pragma once

#include <memory>

#include "data/loader.h"
#include "distributed/world.h"
#include "eval/label_set.h"
#include "eval/metrics/accuracy.h"
#include "eval/metrics/confusion.h"
#include "eval/precision.h"
#include "vrwkv/vrwkv_classifier.h"

namespace vrwkv::eval {

/// Loader threads of one process: data.workers, or its share of the host's cores.
int64_t loader_workers(const config::RunConfig& config, const distributed::World& world);

/// A loader of `dataset` in its order, with the configuration's evaluation transform, eval.batch_size and loader keys.
/// A corrupt image is an error. Of several processes each gets its share; every image comes once.
std::unique_ptr<data::Loader> make_eval_loader(const config::RunConfig& config,
                                               std::shared_ptr<const data::Dataset> dataset, at::Device device,
                                               const distributed::World& world = {});

/// The batch's images as a network takes them: normalised, weights_dtype(precision.dtype) [B, 3, S, S], on the device.
at::Tensor to_device(const data::Batch& batch, const data::NormalizeOptions& normalize, const Precision& precision);

/// Puts a module into evaluation mode while it lives.
class EvaluationMode {
 public:
  explicit EvaluationMode(torch::nn::Module& module);
  ~EvaluationMode();
  EvaluationMode(const EvaluationMode&) = delete;
  EvaluationMode& operator=(const EvaluationMode&) = delete;

 private:
  torch::nn::Module& module_;
  bool was_training_;
};

struct EvaluationOptions {
  bool flip = false;                     ///< The mean of the probabilities of each image and its mirror image.
  const LabelSet* labels = nullptr;      ///< What is right; null: class i of the data is class i of the model.
  int64_t data_classes = 0;              ///< Of the data, for `labels`.
  ConfusionMatrix* confusion = nullptr;  ///< Counts along, where it is given.
};

/// Runs `model` over one epoch of `loader`, in evaluation mode and without gradients; its training mode is restored.
/// The model's weights lie on precision.device in weights_dtype(precision.dtype). Throws std::runtime_error that names
/// the image when a label is not below the model's number of classes. Of several processes each runs over its loader,
/// and all get the sum of their counts.
Accuracy evaluate(VrwkvClassifier model, data::Loader& loader, const data::NormalizeOptions& normalize,
                  const Precision& precision, distributed::World& world, const EvaluationOptions& options = {});

/// evaluate() in a process on its own.
Accuracy evaluate(VrwkvClassifier model, data::Loader& loader, const data::NormalizeOptions& normalize,
                  const Precision& precision);

}  // namespace vrwkv::eval

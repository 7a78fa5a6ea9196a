#include "bench/steps.h"

#include <ATen/ATen.h>
#include <torch/nn/functional/loss.h>

#include <memory>

#include "config/run_config.h"
#include "distributed/gradient_sync.h"
#include "train/adamw.h"
#include "train/param_groups.h"
#include "train/train_step.h"
#include "vrwkv/vrwkv_classifier.h"

namespace vrwkv::bench {
namespace {

VrwkvClassifier make_model(const NetworkCase& network, const eval::Precision& precision) {
  ClassifierOptions options = variant_options(network.variant);
  options.backbone.img_size = network.image_size;  // a position embedding of this very grid: nothing is resized
  VrwkvClassifier model(options);
  model->to(precision.device, eval::weights_dtype(precision.dtype));
  return model;
}

at::Tensor random_images(const NetworkCase& network, const eval::Precision& precision) {
  const auto options = at::TensorOptions(eval::weights_dtype(precision.dtype)).device(precision.device);
  return at::randn({network.batch, 3, network.image_size, network.image_size}, options);
}

struct Inference {
  Inference(const NetworkCase& network, const eval::Precision& precision)
      : model(make_model(network, precision)), images(random_images(network, precision)), guard(precision) {
    model->eval();
  }

  VrwkvClassifier model;
  at::Tensor images;
  eval::PrecisionGuard guard;
};

struct Training {
  Training(const NetworkCase& network, const eval::Precision& where, distributed::World* world,
           const distributed::Options& sharing)
      : precision(where),
        model(make_model(network, precision)),
        optimizer(train::make_param_groups(*model, options.optimizer), options.optimizer),
        images(random_images(network, precision)),
        labels(at::randint(model->options().num_classes, {network.batch}, images.options().dtype(at::kLong))) {
    model->train();
    if (world != nullptr && world->size() > 1) {
      sync = std::make_unique<distributed::GradientSync>(model->parameters(), *world, sharing);
    }
  }

  void step() {
    train::train_step([this](int64_t) { return loss(); }, /*parts=*/1, optimizer, options.clip_grad_norm,
                      /*skip_above=*/{}, /*scale=*/nullptr, sync.get());
  }

  at::Tensor loss() {
    const eval::PrecisionGuard guard(precision);
    namespace F = torch::nn::functional;
    return F::cross_entropy(model(images), labels,
                            F::CrossEntropyFuncOptions().label_smoothing(options.label_smoothing));
  }

  config::TrainOptions options;
  eval::Precision precision;
  VrwkvClassifier model;
  train::AdamW optimizer;
  at::Tensor images, labels;
  std::unique_ptr<distributed::GradientSync> sync;  ///< Null: this process alone.
};

}  // namespace

std::string NetworkCase::text() const {
  return variant + ":" + std::to_string(image_size) + ":" + std::to_string(batch);
}

Step make_model_step(const NetworkCase& network, const eval::Precision& precision) {
  const auto inference = std::make_shared<Inference>(network, precision);
  return [inference] {
    const at::NoGradGuard no_grad;
    inference->model(inference->images);
  };
}

Step make_train_step(const NetworkCase& network, const eval::Precision& precision, distributed::World* world,
                     const distributed::Options& options) {
  const auto training = std::make_shared<Training>(network, precision, world, options);
  return [training] { training->step(); };
}

}  // namespace vrwkv::bench

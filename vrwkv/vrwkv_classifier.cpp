#include "vrwkv/vrwkv_classifier.h"

#include <torch/nn/modules/activation.h>

#include "vrwkv/init.h"

namespace vrwkv {

VrwkvClassifierImpl::VrwkvClassifierImpl(ClassifierOptions options) : options_(std::move(options)) {
  validate(options_);
  reset();
}

void VrwkvClassifierImpl::reset() {
  const int64_t channels = options_.backbone.embed_dims;
  backbone = register_module("backbone", Vrwkv(options_.backbone));
  torch::nn::Sequential layers;
  switch (options_.head) {
    case HeadKind::linear:
      layers->push_back("fc", torch::nn::Linear(channels, options_.num_classes));
      break;
    case HeadKind::mlp_tanh:
      layers->push_back(torch::nn::Linear(channels, 3 * channels));
      layers->push_back(torch::nn::Tanh());
      layers->push_back(torch::nn::Linear(3 * channels, options_.num_classes));
      break;
  }
  initialize_linears(*layers);
  head = register_module("head", layers);
}

void VrwkvClassifierImpl::pretty_print(std::ostream& stream) const {
  stream << "vrwkv::VrwkvClassifier(num_classes=" << options_.num_classes << ")";
}

torch::Tensor VrwkvClassifierImpl::forward(const torch::Tensor& images) {
  return head->forward(backbone->pooled(images));
}

}  // namespace vrwkv

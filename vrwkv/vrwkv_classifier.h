#pragma once

#include <torch/nn/cloneable.h>
#include <torch/nn/modules/container/any.h>
#include <torch/nn/modules/container/sequential.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/pimpl.h>

#include "vrwkv/options.h"
#include "vrwkv/vrwkv.h"

namespace vrwkv {

/// A VRWKV backbone with the published classification head over the mean of its tokens. Parameter names are the
/// published ones: backbone.*, and head.fc.* or head.0.*, head.2.*.
class VrwkvClassifierImpl : public torch::nn::Cloneable<VrwkvClassifierImpl> {
 public:
  /// Throws UsageError for options that contradict each other.
  explicit VrwkvClassifierImpl(ClassifierOptions options);
  void reset() override;
  void pretty_print(std::ostream& stream) const override;

  /// images: [B, in_channels, H, W], normalised, H and W multiples of the patch size; returns logits [B, num_classes].
  torch::Tensor forward(const torch::Tensor& images);

  const ClassifierOptions& options() const { return options_; }

  Vrwkv backbone{nullptr};
  torch::nn::Sequential head{nullptr};

 private:
  ClassifierOptions options_;
};

TORCH_MODULE(VrwkvClassifier);

}  // namespace vrwkv

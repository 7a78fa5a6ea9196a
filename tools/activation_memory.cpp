#include "tools/activation_memory.h"

#include <ATen/Functions.h>
#include <c10/core/Allocator.h>
#include <c10/core/GradMode.h>
#include <c10/util/ThreadLocalDebugInfo.h>

#include <algorithm>
#include <memory>

#include "vrwkv/masked_autoencoder.h"
#include "vrwkv/vrwkv_classifier.h"

namespace vrwkv::tools {
namespace {

/// Adds up what the allocator of a device hands out and gets back.
class AllocationCounter : public c10::MemoryReportingInfoBase {
 public:
  explicit AllocationCounter(at::Device device) : device_(device) {}

  void reportMemoryUsage(void*, int64_t size, size_t, size_t, at::Device device) override {
    if (device.type() == device_.type()) bytes_ += size;
  }
  bool memoryProfilingEnabled() const override { return true; }

  int64_t bytes() const { return bytes_; }

 private:
  at::Device device_;
  int64_t bytes_ = 0;
};

/// What the forward pass of `batch` images leaves allocated while its result lives.
template <typename Forward>
int64_t kept_by_forward(const Forward& network, const VrwkvOptions& backbone, int64_t batch, int64_t size,
                        const eval::Precision& precision) {
  const at::Tensor images = at::zeros({batch, backbone.in_channels, size, size},
                                      at::dtype(eval::weights_dtype(precision.dtype)).device(precision.device));
  const auto forward = [&] {
    const eval::PrecisionGuard guard(precision);
    return network(images);
  };
  forward();  // Libraries take their working space in their first call, and keep it.
  const auto counter = std::make_shared<AllocationCounter>(precision.device);
  const c10::DebugInfoGuard counting(c10::DebugInfoKind::PROFILER_STATE, counter);
  const auto result = forward();
  return counter->bytes();
}

/// The same for each image: two batches tell it from what does not grow with them.
template <typename Forward>
int64_t kept_per_image(const Forward& network, const VrwkvOptions& backbone, int64_t size,
                       const eval::Precision& precision) {
  const int64_t one = kept_by_forward(network, backbone, 1, size, precision);
  return kept_by_forward(network, backbone, 2, size, precision) - one;
}

/// Of a classifier with `depth` blocks.
int64_t kept_by_classifier(ClassifierOptions options, int64_t depth, int64_t size, const eval::Precision& precision) {
  options.backbone.depth = depth;
  options.backbone.out_indices.clear();
  options.backbone.linear_init =
      LinearInit::trunc_normal;  // Orthogonal matrices take their time, and nothing reads them.
  VrwkvClassifier model(options);
  model->to(precision.device, eval::weights_dtype(precision.dtype));
  model->train();
  return kept_per_image([&](const at::Tensor& images) { return model->forward(images); }, options.backbone, size,
                        precision);
}

}  // namespace

ActivationMemory measure_activations(const ClassifierOptions& options, int64_t size, const eval::Precision& precision) {
  const c10::AutoGradMode gradients(true);
  constexpr int64_t kFew = 2;
  const int64_t depth = options.backbone.depth;
  ActivationMemory memory;
  const int64_t few = kept_by_classifier(options, std::min(depth, kFew), size, precision);
  if (depth > 1) memory.block = kept_by_classifier(options, kFew + 1, size, precision) - few;
  memory.rest = few - (std::min(depth, kFew) - 1) * memory.block;
  memory.total = memory.rest + (depth - 1) * memory.block;
  return memory;
}

ActivationMemory measure_activations(const MaskedAutoencoderOptions& options, int64_t size,
                                     const eval::Precision& precision) {
  const c10::AutoGradMode gradients(true);
  MaskedAutoencoder model(options);
  model->to(precision.device, eval::weights_dtype(precision.dtype));
  model->train();
  const auto forward = [&](const at::Tensor& images) {
    return model->forward(images, masking_noise(images.size(0), model->grid(images).tokens(), images.device()));
  };
  ActivationMemory memory;
  memory.rest = kept_per_image(forward, options.backbone, size, precision);
  memory.total = memory.rest;
  return memory;
}

}  // namespace vrwkv::tools

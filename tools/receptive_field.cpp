#include "tools/receptive_field.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>

namespace vrwkv::tools {
namespace {

/// What the backward passes send back: [passes, C]; unit vectors, or signs divided by the root of their number.
at::Tensor directions(int64_t channels, int64_t probes, int64_t seed) {
  if (probes >= channels) return at::eye(channels);
  const at::Generator generator = at::detail::createCPUGenerator(static_cast<std::uint64_t>(seed));
  const at::Tensor bits = at::randint(2, {probes, channels}, generator, at::TensorOptions(at::kDouble));
  return (2 * bits - 1) / std::sqrt(static_cast<double>(probes));
}

}  // namespace

at::Tensor receptive_field(Vrwkv& backbone, const at::Tensor& images, int64_t probes, int64_t seed,
                           const eval::Precision& precision) {
  const c10::AutoGradMode gradients(true);
  const at::Tensor input = images.detach().requires_grad_();
  const at::Tensor map = [&] {
    const eval::PrecisionGuard guard(precision);
    return backbone->forward(input).front();
  }();
  const at::Tensor centre = map.select(2, map.size(2) / 2).select(2, map.size(3) / 2);
  const at::Tensor sent = directions(map.size(1), probes, seed).to(centre.options());
  at::Tensor squares = at::zeros({images.size(2), images.size(3)}, at::kDouble);
  for (int64_t pass = 0; pass < sent.size(0); ++pass) {
    const bool more = pass + 1 < sent.size(0);
    const at::Tensor gradient =
        torch::autograd::grad({centre}, {input}, {sent[pass].expand_as(centre)}, /*retain_graph=*/more).front();
    squares += gradient.to(at::kCPU, at::kDouble).square().sum(1).mean(0);
  }
  return squares.sqrt();
}

}  // namespace vrwkv::tools

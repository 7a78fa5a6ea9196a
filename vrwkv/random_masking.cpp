#include "vrwkv/random_masking.h"

#include <ATen/Functions.h>

namespace vrwkv {

Masking random_masking(const torch::Tensor& noise, int64_t visible) {
  TORCH_CHECK(noise.dim() == 2 && visible >= 1 && visible <= noise.size(1),
              "random_masking: noise must be [B, T] with T of at least the ", visible, " visible tokens, got ",
              noise.sizes());
  const torch::Tensor order = at::argsort(noise, /*stable=*/true, /*dim=*/1, /*descending=*/false);
  const torch::Tensor places = at::arange(noise.size(1), order.options()).expand_as(order);
  const torch::Tensor restore = at::empty_like(order).scatter_(1, order, places);
  return {order.slice(1, 0, visible), restore, restore.ge(visible).to(at::kFloat)};
}

torch::Tensor masking_noise(int64_t batch, int64_t tokens, at::Device device, std::optional<at::Generator> generator) {
  return at::rand({batch, tokens}, generator, at::TensorOptions(at::kFloat).device(device));
}

}  // namespace vrwkv

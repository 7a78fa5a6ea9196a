#include "data/augment/policies.h"

#include "data/augment/named.h"

namespace vrwkv::data::augment {

at::Tensor apply_operations(const at::Tensor& image, std::span<const DrawnOperation> operations) {
  at::Tensor result = image;
  for (const auto& [kind, argument] : operations) {
    result = named_operations()[static_cast<std::size_t>(kind)].apply(result, argument);
  }
  return result;
}

at::Tensor rand_augment(const at::Tensor& image, const RandAugmentOptions& options, Generator& generator) {
  return apply_operations(image, draw_rand_augment(options, generator));
}

at::Tensor three_augment(const at::Tensor& image, Generator& generator) {
  const DrawnOperation drawn = draw_three_augment(generator);
  return apply_operations(image, {&drawn, 1});
}

at::Tensor color_jitter(const at::Tensor& image, double strength, Generator& generator) {
  return apply_operations(image, draw_color_jitter(strength, generator));
}

}  // namespace vrwkv::data::augment

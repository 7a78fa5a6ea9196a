#include "data/gpu/image_operations.h"

#include <algorithm>
#include <array>

#include "data/augment/affine.h"
#include "data/augment/box_weights.h"

namespace vrwkv::data::gpu {
namespace {

using augment::Affine;
using augment::OperationKind;

Affine map_of(const augment::DrawnOperation& drawn, int64_t size) {
  switch (drawn.kind) {
    case OperationKind::rotate:
      return augment::rotation(drawn.argument, size, size);
    case OperationKind::shear_x:
      return {.b = drawn.argument};
    case OperationKind::shear_y:
      return {.d = drawn.argument};
    case OperationKind::translate_x_rel:
      return {.c = drawn.argument * static_cast<double>(size)};
    case OperationKind::translate_y_rel:
      return {.f = drawn.argument * static_cast<double>(size)};
    default:
      return {};
  }
}

}  // namespace

ImageOperation image_operation(const augment::DrawnOperation& drawn, int64_t size) {
  ImageOperation operation{};
  operation.kind = drawn.kind;
  const auto whole = static_cast<int>(drawn.argument);
  operation.whole = drawn.kind == OperationKind::posterize ? 8 - whole : whole;
  operation.factor = static_cast<float>(drawn.argument);
  const Affine map = map_of(drawn, size);
  std::ranges::copy(std::array{map.a, map.b, map.c, map.d, map.e, map.f}, operation.map);
  if (drawn.kind == OperationKind::gaussian_blur) {
    const augment::BoxWeights box = augment::box_of(drawn.argument);
    operation.reach = static_cast<int>(box.reach);
    operation.inner = box.whole;
    operation.edge = box.edge;
  }
  return operation;
}

}  // namespace vrwkv::data::gpu

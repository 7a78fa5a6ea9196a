#include "ops/q_shift.h"

#include <ATen/Functions.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "ops/q_shift_geometry.h"

namespace vrwkv::ops {

QShiftGeometry check_q_shift(const at::Tensor& x, int64_t height, int64_t width, int64_t direction) {
  TORCH_CHECK(x.dim() == 3, "q_shift: x must be [B, height * width, C], got ", x.sizes());
  TORCH_CHECK(x.is_floating_point(), "q_shift: x must be a floating point tensor, got ", x.scalar_type());
  TORCH_CHECK(height >= 1 && width >= 1, "q_shift: height and width must be at least 1, got ", height, " and ", width);
  TORCH_CHECK(x.size(1) == height * width, "q_shift: x must have height * width = ", height, " * ", width, " = ",
              height * width, " tokens, got ", x.sizes());
  TORCH_CHECK(direction == 1 || direction == -1, "q_shift: direction must be 1 or -1, got ", direction);
  return {x.size(0), height, width, x.size(2), direction};
}

namespace {

/// The registered op behind both q_shift and its gradient.
at::Tensor shift(const at::Tensor& x, int64_t height, int64_t width, int64_t direction) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("vrwkv::_q_shift", "")
                             .typed<at::Tensor(const at::Tensor&, int64_t, int64_t, int64_t)>();
  return op.call(x, height, width, direction);
}

at::Tensor q_shift_composite(const at::Tensor& x, int64_t height, int64_t width) { return shift(x, height, width, 1); }

at::Tensor shift_meta(const at::Tensor& x, int64_t height, int64_t width, int64_t direction) {
  check_q_shift(x, height, width, direction);
  return at::empty_like(x, at::MemoryFormat::Contiguous);
}

class QShiftFunction : public torch::autograd::Function<QShiftFunction> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x, int64_t height,
                            int64_t width, int64_t direction) {
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    context->saved_data["height"] = height;
    context->saved_data["width"] = width;
    context->saved_data["direction"] = direction;
    return shift(x, height, width, direction);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    const at::Tensor gx = shift(gradients[0], context->saved_data["height"].toInt(),
                                context->saved_data["width"].toInt(), -context->saved_data["direction"].toInt());
    return {gx, at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

at::Tensor shift_autograd(const at::Tensor& x, int64_t height, int64_t width, int64_t direction) {
  return QShiftFunction::apply(x, height, width, direction);
}

}  // namespace

at::Tensor q_shift(const at::Tensor& x, int64_t height, int64_t width) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("vrwkv::q_shift", "")
                             .typed<at::Tensor(const at::Tensor&, int64_t, int64_t)>();
  return op.call(x, height, width);
}

TORCH_LIBRARY_FRAGMENT(vrwkv, m) {
  m.def("q_shift(Tensor x, int height, int width) -> Tensor");
  m.def("_q_shift(Tensor x, int height, int width, int direction) -> Tensor");
}

TORCH_LIBRARY_IMPL(vrwkv, CompositeImplicitAutograd, m) { m.impl("q_shift", q_shift_composite); }
TORCH_LIBRARY_IMPL(vrwkv, Autograd, m) { m.impl("_q_shift", shift_autograd); }
TORCH_LIBRARY_IMPL(vrwkv, Meta, m) { m.impl("_q_shift", shift_meta); }

}  // namespace vrwkv::ops

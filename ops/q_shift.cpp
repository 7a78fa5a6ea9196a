#include "ops/q_shift.h"

#include <ATen/Functions.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "ops/q_shift_geometry.h"

namespace vrwkv::ops {

QShiftGeometry check_q_shift(const at::Tensor& x, int64_t height, int64_t width, int64_t direction,
                             std::optional<int64_t> group) {
  TORCH_CHECK(x.dim() == 3, "q_shift: x must be [B, height * width, C], got ", x.sizes());
  TORCH_CHECK(x.is_floating_point(), "q_shift: x must be a floating point tensor, got ", x.scalar_type());
  TORCH_CHECK(height >= 1 && width >= 1, "q_shift: height and width must be at least 1, got ", height, " and ", width);
  TORCH_CHECK(x.size(1) == height * width, "q_shift: x must have height * width = ", height, " * ", width, " = ",
              height * width, " tokens, got ", x.sizes());
  TORCH_CHECK(direction == 1 || direction == -1, "q_shift: direction must be 1 or -1, got ", direction);
  const int64_t channels = x.size(2);
  TORCH_CHECK(!group || (*group >= 1 && channels % *group == 0), "q_shift: group must divide the C = ", channels,
              " channels of x, got ", group.value_or(0));
  return {x.size(0), height, width, channels, group.value_or(channels), direction};
}

namespace {

/// The registered op behind both q_shift and its gradient.
at::Tensor shift(const at::Tensor& x, int64_t height, int64_t width, int64_t direction, std::optional<int64_t> group) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("vrwkv::_q_shift", "")
                             .typed<at::Tensor(const at::Tensor&, int64_t, int64_t, int64_t, std::optional<int64_t>)>();
  return op.call(x, height, width, direction, group);
}

at::Tensor q_shift_composite(const at::Tensor& x, int64_t height, int64_t width, std::optional<int64_t> group) {
  return shift(x, height, width, 1, group);
}

at::Tensor shift_meta(const at::Tensor& x, int64_t height, int64_t width, int64_t direction,
                      std::optional<int64_t> group) {
  check_q_shift(x, height, width, direction, group);
  return at::empty_like(x, at::MemoryFormat::Contiguous);
}

class QShiftFunction : public torch::autograd::Function<QShiftFunction> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x, int64_t height,
                            int64_t width, int64_t direction, std::optional<int64_t> group) {
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    context->saved_data["height"] = height;
    context->saved_data["width"] = width;
    context->saved_data["direction"] = direction;
    context->saved_data["group"] = group;
    return shift(x, height, width, direction, group);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    const auto saved = [&](const char* name) -> const at::IValue& { return context->saved_data[name]; };
    const at::Tensor gx = shift(gradients[0], saved("height").toInt(), saved("width").toInt(),
                                -saved("direction").toInt(), saved("group").toOptional<int64_t>());
    return {gx, at::Tensor(), at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

at::Tensor shift_autograd(const at::Tensor& x, int64_t height, int64_t width, int64_t direction,
                          std::optional<int64_t> group) {
  return QShiftFunction::apply(x, height, width, direction, group);
}

}  // namespace

at::Tensor q_shift(const at::Tensor& x, int64_t height, int64_t width, std::optional<int64_t> group) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("vrwkv::q_shift", "")
                             .typed<at::Tensor(const at::Tensor&, int64_t, int64_t, std::optional<int64_t>)>();
  return op.call(x, height, width, group);
}

TORCH_LIBRARY_FRAGMENT(vrwkv, m) {
  m.def("q_shift(Tensor x, int height, int width, int? group=None) -> Tensor");
  m.def("_q_shift(Tensor x, int height, int width, int direction, int? group=None) -> Tensor");
}

TORCH_LIBRARY_IMPL(vrwkv, CompositeImplicitAutograd, m) { m.impl("q_shift", q_shift_composite); }
TORCH_LIBRARY_IMPL(vrwkv, Autograd, m) { m.impl("_q_shift", shift_autograd); }
TORCH_LIBRARY_IMPL(vrwkv, Meta, m) { m.impl("_q_shift", shift_meta); }

}  // namespace vrwkv::ops

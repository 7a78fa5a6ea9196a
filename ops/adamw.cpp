#include "ops/adamw.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

#include "ops/optional_tensor.h"

namespace vrwkv::ops {

void adamw_step(at::TensorList values, at::TensorList gradients, at::TensorList exp_avgs, at::TensorList exp_avg_sqs,
                const AdamWStep& step) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("vrwkv::_adamw_step_", "")
                             .typed<void(at::TensorList, at::TensorList, at::TensorList, at::TensorList,
                                         const at::Tensor&, const at::Tensor&, double, double, double, double,
                                         at::TensorList, const std::optional<at::Tensor>&)>();
  op.call(values, gradients, exp_avgs, exp_avg_sqs, step.lr, step.steps, step.beta1, step.beta2, step.weight_decay,
          step.eps, step.factors, optional_tensor(step.skip));
}

TORCH_LIBRARY_FRAGMENT(vrwkv, m) {
  m.def(
      "_adamw_step_(Tensor(a!)[] values, Tensor[] gradients, Tensor(b!)[] exp_avgs, Tensor(c!)[] exp_avg_sqs, Tensor "
      "lr, Tensor steps, float beta1, float beta2, float weight_decay, float eps, Tensor[] factors, Tensor? skip) -> "
      "()");
}

}  // namespace vrwkv::ops

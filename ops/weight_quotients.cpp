#include "ops/weight_quotients.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/custom_function.h>

#include <vector>

#include "ops/kept_weights.h"
#include "ops/needs_gradient.h"

namespace vrwkv::ops {
namespace {

at::Tensor kept_quotient(const at::Tensor& weight, double divisor) {
  const WeightsOfThread& mine = weights_of_thread();
  return mine.divisor == divisor ? mine.quotients.find(weight) : at::Tensor();
}

/// Two weights and their quotients. The gradients are divided together, too.
class DividedWeightsFunction : public torch::autograd::Function<DividedWeightsFunction> {
 public:
  static torch::autograd::variable_list forward(torch::autograd::AutogradContext* context, const at::Tensor& /*first*/,
                                                const at::Tensor& /*second*/, const at::Tensor& first_quotient,
                                                const at::Tensor& second_quotient, double divisor) {
    context->saved_data["divisor"] = divisor;
    return {first_quotient.detach(), second_quotient.detach()};
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    const double divisor = context->saved_data["divisor"].toDouble();
    const std::vector<at::Tensor> divided = at::_foreach_mul(gradients, 1 / divisor);
    return {divided[0], divided[1], at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

void divide_weights(at::TensorList weights, double divisor) {
  WeightsOfThread& mine = weights_of_thread();
  if (mine.scopes == 0) return;
  if (mine.divisor != divisor) {
    mine.quotients = {};
    mine.divisor = divisor;
  }
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> missing;
  for (const at::Tensor& weight : weights) {
    // Tensors of the inference mode cannot be kept.
    if (!weight.is_inference() && !mine.quotients.find(weight).defined()) missing.push_back(weight);
  }
  if (missing.empty()) return;
  const std::vector<at::Tensor> quotients = at::_foreach_mul(missing, 1 / divisor);
  for (size_t i = 0; i < missing.size(); ++i) mine.quotients.keep(missing[i], quotients[i]);
}

std::tuple<at::Tensor, at::Tensor> divided_weights(const at::Tensor& first, const at::Tensor& second, double divisor) {
  const at::Tensor of_first = kept_quotient(first, divisor), of_second = kept_quotient(second, divisor);
  if (!of_first.defined() || !of_second.defined()) return {first / divisor, second / divisor};
  if (!needs_gradient({first, second})) return {of_first, of_second};
  const auto results = DividedWeightsFunction::apply(first, second, of_first, of_second, divisor);
  return {results[0], results[1]};
}

}  // namespace vrwkv::ops

#include "vrwkv/layers/checkpoint_function.h"

#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include <optional>

#include "vrwkv/autocast.h"

namespace vrwkv {
namespace {

using Body = std::function<torch::Tensor(const torch::Tensor&)>;

/// What the second run needs; kept alive by the graph node through an IValue capsule.
struct Recompute : torch::CustomClassHolder {
  Body body;
  std::optional<at::ScalarType> autocast_dtype;
  Recompute(Body body_in, std::optional<at::ScalarType> dtype) : body(std::move(body_in)), autocast_dtype(dtype) {}
};

class CheckpointFunction : public torch::autograd::Function<CheckpointFunction> {
 public:
  static torch::Tensor forward(torch::autograd::AutogradContext* context, const torch::Tensor& x,
                               const c10::intrusive_ptr<Recompute>& recompute) {
    context->save_for_backward({x});
    context->saved_data["recompute"] = c10::IValue::make_capsule(recompute);
    const at::NoGradGuard no_grad;
    return recompute->body(x);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    const auto capsule = context->saved_data["recompute"].toCapsule();
    const auto& recompute = static_cast<const Recompute&>(*capsule);
    const torch::Tensor x = context->get_saved_variables()[0].detach().requires_grad_();
    const at::AutoGradMode with_grad(true);
    torch::Tensor y;
    {
      std::optional<AutocastGuard> autocast;
      if (recompute.autocast_dtype) autocast.emplace(x.device().type(), *recompute.autocast_dtype);
      y = recompute.body(x);
    }
    torch::autograd::backward({y}, {gradients[0]});
    return {x.grad(), torch::Tensor()};
  }
};

}  // namespace

torch::Tensor checkpoint(const Body& function, const torch::Tensor& x) {
  TORCH_CHECK(x.requires_grad(), "checkpoint: x must require grad, or the parameters inside would get no gradient");
  return CheckpointFunction::apply(x, c10::make_intrusive<Recompute>(function, autocast_dtype(x.device().type())));
}

}  // namespace vrwkv

#include "ops/linear.h"

#include <ATen/ATen.h>
#include <ATen/autocast_mode.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <algorithm>

#include "ops/backward_operators.h"
#include "ops/needs_gradient.h"
#include "ops/products.h"
#include "ops/registered_operator.h"
#include "ops/weight_casts.h"

namespace vrwkv::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// Matrices at equal distances in memory as one tensor [parts, rows, columns]; undefined if they are not so.
at::Tensor stacked(at::TensorList parts) {
  const at::Tensor& first = parts[0];
  if (parts.size() < 2) return {};
  const int64_t distance = parts[1].storage_offset() - first.storage_offset();
  for (size_t i = 0; i < parts.size(); ++i) {
    if (!parts[i].is_alias_of(first) || parts[i].sizes() != first.sizes() || parts[i].strides() != first.strides() ||
        parts[i].scalar_type() != first.scalar_type() || distance <= 0 ||
        parts[i].storage_offset() != first.storage_offset() + static_cast<int64_t>(i) * distance) {
      return {};
    }
  }
  return first.as_strided({static_cast<int64_t>(parts.size()), first.size(0), first.size(1)},
                          {distance, first.stride(0), first.stride(1)});
}

/// Channels of a square weight from which on one batched product is faster than a product each: it has tiles enough for
/// a GPU without sums in parts. With 384 it is not.
constexpr int64_t kLeastBatchedChannels = 768;

std::vector<at::Tensor> weight_gradients(at::TensorList gy, at::TensorList x) {
  TORCH_CHECK(gy.size() == x.size(), "_linear_weight_gradients: as many gy as x expected, ", x.size(), ", got ",
              gy.size());
  std::vector<at::Tensor> left, right, gradients;
  for (size_t i = 0; i < gy.size(); ++i) {
    left.push_back(gy[i].flatten(0, -2));
    right.push_back(x[i].flatten(0, -2));
  }
  if (std::min(left[0].size(1), right[0].size(1)) >= kLeastBatchedChannels) {
    const at::Tensor all_left = stacked(left), all_right = stacked(right);
    if (all_left.defined() && all_right.defined()) {
      return at::bmm(all_left.transpose(1, 2), all_right, at::kFloat).unbind();
    }
  }
  for (size_t i = 0; i < gy.size(); ++i) gradients.push_back(at::mm(left[i].t(), right[i], at::kFloat));
  return gradients;
}

/// Layers of one size. The weights count as the float32 parameters that they are; `casts` are their values in x's
/// dtype.
class LinearsFunction : public torch::autograd::Function<LinearsFunction> {
 public:
  static variable_list forward(AutogradContext* context, at::TensorList x, at::TensorList weights,
                               at::TensorList casts) {
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    variable_list saved;
    for (size_t i = 0; i < x.size(); ++i) saved.push_back(weights[i].requires_grad() ? x[i] : at::Tensor());
    for (size_t i = 0; i < x.size(); ++i) saved.push_back(x[i].requires_grad() ? casts[i] : at::Tensor());
    context->save_for_backward(saved);
    return products(x, casts);
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const size_t count = gradients.size();
    variable_list results(3 * count);
    // The gradients of those of the inputs from `first` on that need one, which `of` gives from gy and what was saved.
    const auto differentiate = [&](size_t first, size_t first_saved, const auto& of) {
      variable_list gy, other;
      for (size_t i = 0; i < count; ++i) {
        if (!context->needs_input_grad(first + i)) continue;
        gy.push_back(gradients[i]);
        other.push_back(saved[first_saved + i]);
      }
      if (gy.empty()) return;
      const variable_list found = of(gy, other);
      for (size_t i = 0, next = 0; i < count; ++i) {
        if (context->needs_input_grad(first + i)) results[first + i] = found[next++];
      }
    };
    differentiate(0, count, [](const auto& gy, const auto& casts) { return products(gy, casts, /*transposed=*/true); });
    differentiate(count, 0, linear_weight_gradients);
    return results;
  }
};

}  // namespace

std::vector<at::Tensor> linear_weight_gradients(at::TensorList gy, at::TensorList x) {
  return registered_operator<linear_weight_gradients>("vrwkv::_linear_weight_gradients").call(gy, x);
}

std::vector<at::Tensor> linears(at::TensorList x, at::TensorList weights) {
  TORCH_CHECK(!x.empty() && x.size() == weights.size(), "linears: as many weights as x expected, ", x.size(), ", got ",
              weights.size());
  const c10::DeviceType device = x[0].device().type();
  const bool autocasts = at::autocast::is_autocast_enabled(device);
  const at::ScalarType dtype = autocasts ? at::autocast::get_autocast_dtype(device) : x[0].scalar_type();
  const bool wide = std::ranges::all_of(weights, [](const auto& weight) { return weight.scalar_type() == at::kFloat; });
  if (wide && (dtype == at::kBFloat16 || dtype == at::kHalf) && x[0].is_cuda()) {
    std::vector<at::Tensor> narrow, casts;
    for (const at::Tensor& one : x) narrow.push_back(one.to(dtype));
    const bool differentiates = needs_gradient({}, x, weights);
    for (const at::Tensor& weight : weights) {
      casts.push_back(differentiates ? cast_weight(weight, dtype) : kept_cast(weight, dtype));
    }
    if (differentiates) return LinearsFunction::apply(at::TensorList(narrow), weights, at::TensorList(casts));
    if (std::ranges::all_of(casts, [](const auto& cast) { return cast.defined(); })) return products(narrow, casts);
  }
  std::vector<at::Tensor> results;
  for (size_t i = 0; i < x.size(); ++i) {
    const bool as_it_is = autocasts || weights[i].scalar_type() == dtype;
    results.push_back(at::linear(x[i], as_it_is ? weights[i] : weights[i].to(dtype)));
  }
  return results;
}

at::Tensor linear(const at::Tensor& x, const at::Tensor& weight) { return linears(x, weight)[0]; }

TORCH_LIBRARY_FRAGMENT(vrwkv, m) {
  // Of linears(x, weights), in float32, given the gradients of its results.
  m.def("_linear_weight_gradients(Tensor[] gy, Tensor[] x) -> Tensor[]");
}

TORCH_LIBRARY_IMPL(vrwkv, CUDA, m) { m.impl("_linear_weight_gradients", weight_gradients); }

TORCH_LIBRARY_IMPL(vrwkv, Autograd, m) {
  // Differentiating the gradient raises an error instead of forgetting the weight behind its cast.
  m.impl("_linear_weight_gradients", torch::autograd::autogradNotImplementedFallback());
}

}  // namespace vrwkv::ops

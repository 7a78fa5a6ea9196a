#include "bench/tensor_scan.h"

#include <ATen/ATen.h>
#include <ATen/OpMathType.h>

#include <algorithm>
#include <vector>

namespace vrwkv::bench {
namespace {

/// The exponent of an empty sum: below every other, but finite, so that differences of two are numbers.
constexpr double kEmpty = -1e30;

/// For every token the sums over the tokens before it (or behind it, for the other direction), [B, T, C] each: the
/// values' and the weights' relative to e^exponent.
struct Sums {
  at::Tensor values, weights, exponent;
};

/// Any exponent gives the same result, so gradients need not pass through it.
at::Tensor without_gradient(const auto& compute) {
  const at::NoGradGuard no_grad;
  return compute();
}

Sums scan(const at::Tensor& w, const at::Tensor& k, const at::Tensor& v, bool reverse) {
  const std::vector<at::Tensor> keys = k.unbind(1), tokens = v.unbind(1);
  at::Tensor value = at::zeros_like(keys[0]), weight = at::zeros_like(keys[0]);
  at::Tensor exponent = at::full_like(keys[0], kEmpty);
  std::vector<at::Tensor> values, weights, exponents;
  for (std::size_t step = 0; step < keys.size(); ++step) {
    const std::size_t token = reverse ? keys.size() - 1 - step : step;
    values.push_back(value);
    weights.push_back(weight);
    exponents.push_back(exponent);
    const at::Tensor next = without_gradient([&] { return at::maximum(exponent - w, keys[token]); });
    const at::Tensor keep = at::exp(exponent - w - next);
    const at::Tensor take = at::exp(keys[token] - next);
    value = keep * value + take * tokens[token];
    weight = keep * weight + take;
    exponent = next;
  }
  for (std::vector<at::Tensor>* list : {&values, &weights, &exponents}) {
    if (reverse) std::reverse(list->begin(), list->end());
  }
  return {at::stack(values, 1), at::stack(weights, 1), at::stack(exponents, 1)};
}

}  // namespace

at::Tensor tensor_scan_bi_wkv(const at::Tensor& w, const at::Tensor& u, const at::Tensor& k, const at::Tensor& v) {
  const auto dtype = at::toOpMathType(k.scalar_type());
  const at::Tensor decay = w.to(dtype), keys = k.to(dtype), tokens = v.to(dtype);
  const at::Tensor own = keys + u.to(dtype);
  const Sums before = scan(decay, keys, tokens, /*reverse=*/false);
  const Sums behind = scan(decay, keys, tokens, /*reverse=*/true);
  const at::Tensor largest =
      without_gradient([&] { return at::maximum(own, at::maximum(before.exponent, behind.exponent)); });
  const at::Tensor left = at::exp(before.exponent - largest), right = at::exp(behind.exponent - largest);
  const at::Tensor self = at::exp(own - largest);
  const at::Tensor numerator = left * before.values + right * behind.values + self * tokens;
  const at::Tensor denominator = left * before.weights + right * behind.weights + self;
  return (numerator / denominator).to(k.scalar_type());
}

}  // namespace vrwkv::bench

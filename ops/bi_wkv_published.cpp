#include "ops/bi_wkv_published.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

#include <vector>

#include "ops/bi_wkv_check.h"

namespace vrwkv::ops {
namespace {

constexpr int64_t kChunks = 32;

/// The sums before each step of state <- state * decay + terms[i], beginning with zeros, and the one after the last.
std::vector<at::Tensor> scan(const std::vector<at::Tensor>& terms, const at::Tensor& decay) {
  std::vector<at::Tensor> states{at::zeros_like(terms.front())};
  for (const at::Tensor& term : terms) states.push_back(states.back() * decay + term);
  return states;
}

std::vector<at::Tensor> reversed(std::vector<at::Tensor> tensors) { return {tensors.rbegin(), tensors.rend()}; }

/// Numerators and denominators travel as one tensor: terms e^k v and e^k at [0] and [1] of the first dimension.
at::Tensor composite(const at::Tensor& w_in, const at::Tensor& u_in, const at::Tensor& k_in, const at::Tensor& v_in) {
  check_bi_wkv(w_in, u_in, k_in, v_in);
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
  const at::Tensor w = w_in.to(at::kDouble), u = u_in.to(at::kDouble);
  const at::Tensor k = k_in.to(at::kDouble), v = v_in.to(at::kDouble);
  if (k.numel() == 0) return at::empty_like(k_in) + v_in;
  const int64_t batch = k.size(0), tokens = k.size(1), channels = k.size(2);
  const int64_t length = (tokens + kChunks - 1) / kChunks, chunks = (tokens + length - 1) / length;

  // A common factor of all terms leaves their ratio as it is.
  const at::Tensor e = (k - k.detach().amax(1, /*keepdim=*/true)).exp();
  const at::Tensor terms = at::constant_pad_nd(at::stack({e * v, e}), {0, 0, 0, chunks * length - tokens})
                               .view({2, batch, chunks, length, channels});
  const at::Tensor decay = (-w).exp(), growth = w.exp();

  // Within each chunk, all chunks at once.
  const std::vector<at::Tensor> steps = terms.unbind(3);
  const std::vector<at::Tensor> left = scan(steps, decay), right = scan(reversed(steps), decay);
  std::vector<at::Tensor> later = steps;  // The last term's: not the chunk's first token.
  later.front() = at::zeros_like(later.front());
  const std::vector<at::Tensor> growing = scan(later, growth);

  // From chunk to chunk.
  const at::Tensor over_chunk = (-w * static_cast<double>(length)).exp();
  std::vector<at::Tensor> from_left = scan(left.back().unbind(2), over_chunk);
  std::vector<at::Tensor> from_right = scan(reversed(right.back().unbind(2)), over_chunk);
  from_left.pop_back();
  from_right.pop_back();
  const at::Tensor before = at::stack(from_left, 2), behind = at::stack(reversed(from_right), 2);

  std::vector<at::Tensor> sums;
  for (int64_t j = 0; j < length; ++j) {
    const auto index = static_cast<size_t>(j);
    const at::Tensor to_the_right =
        right[static_cast<size_t>(length - 1 - j)] + (-w * static_cast<double>(length - 1 - j)).exp() * behind;
    const at::Tensor to_the_left = left[index] + (-w * static_cast<double>(j + 1)).exp() * before;
    sums.push_back(u.exp() * steps[index] + to_the_left + decay * to_the_right + (1 - growth) * growing[index + 1]);
  }
  const at::Tensor whole = at::stack(sums, 3).view({2, batch, chunks * length, channels}).slice(2, 0, tokens);
  return (whole[0] / whole[1]).to(k_in.scalar_type());
}

}  // namespace

at::Tensor bi_wkv_published(const at::Tensor& w, const at::Tensor& u, const at::Tensor& k, const at::Tensor& v) {
  static const auto op =
      c10::Dispatcher::singleton()
          .findSchemaOrThrow("vrwkv::bi_wkv_published", "")
          .typed<at::Tensor(const at::Tensor&, const at::Tensor&, const at::Tensor&, const at::Tensor&)>();
  return op.call(w, u, k, v);
}

TORCH_LIBRARY_FRAGMENT(vrwkv, m) { m.def("bi_wkv_published(Tensor w, Tensor u, Tensor k, Tensor v) -> Tensor"); }
TORCH_LIBRARY_IMPL(vrwkv, CompositeImplicitAutograd, m) { m.impl("bi_wkv_published", composite); }

}  // namespace vrwkv::ops

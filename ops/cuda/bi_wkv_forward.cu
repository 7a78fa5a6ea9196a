#include <ATen/Dispatch.h>

#include "ops/cuda/bi_wkv_launch.cuh"

namespace vrwkv::ops::cuda {
namespace {

template <typename T, typename In>
using ForwardLauncher = Launcher<T, In, Pass::forward>;

/// With pairs of channels in blocks of kWarps warps. False, and nothing done, where not even one sequence fits.
template <bool kGated, int kWarps, typename T, typename In>
bool run_pairs(ForwardLauncher<T, In>& launcher, const GlobalSums<T>& global, const KeptSums<T>& kept, In* y) {
  using Pairs = PairBlock<kGated, PairPlace<kSegment<T, Exchange::running, Pass::forward>, kWarps>, In>;
  const auto kernel = pair_kernel<T, In, kGated, kWarps>;
  const Shape& shape = launcher.shape();
  const int64_t at_once = launcher.sequences_at_once(kernel, Pairs::kBytes, shape.pair_sequences());
  if (at_once == 0) return false;
  // Twice as soon where no other turn follows, in which the late ones would catch up.
  launcher.stagger(Pairs::kTokenBytes, at_once == shape.pair_sequences() ? 0.5 : 1.0);
  launcher.launch_running(kernel, Pairs::kBytes, at_once, /*together=*/true, shape, launcher.inputs(), global, kept, y);
  return true;
}

template <bool kGated, bool kKeeps, typename T, typename In>
void run(ForwardLauncher<T, In>& launcher, const KeptSums<T>& kept, In* y) {
  const Shape& shape = launcher.shape();
  const Inputs<T, In> inputs = launcher.inputs();
  if (shape.chunks == 1) {
    launcher.launch(forward_kernel<T, In, Exchange::none, kGated, kKeeps>,
                    launcher.template forward_bytes<Exchange::none>(), shape, inputs, GlobalSums<T>{}, kept, y);
    return;
  }
  const int bytes = launcher.template forward_bytes<Exchange::running>();
  const typename ForwardLauncher<T, In>::ExchangeMemory exchange(launcher);
  if constexpr (sizeof(T) == 4) {
    if (launcher.forward_pairs()) {
      constexpr int kWarps = kChunkTokens<T> / kSegment<T, Exchange::running, Pass::forward>;
      const auto run_warps =
          shape.warps == kWarps ? run_pairs<kGated, kWarps, T, In> : run_pairs<kGated, 2 * kWarps, T, In>;
      if (run_warps(launcher, exchange.pointers(), kept, y)) return;
    }
    const auto kernel = forward_kernel<T, In, Exchange::running, kGated, kKeeps>;
    if (const int64_t at_once = launcher.sequences_at_once(kernel, bytes, shape.sequences()); at_once > 0) {
      launcher.launch_running(kernel, bytes, at_once, /*together=*/true, shape, inputs, exchange.pointers(), kept, y);
      return;
    }
  }
  launcher.launch(totals_kernel<T, In>, bytes, shape, inputs, exchange.pointers());
  launcher.launch(forward_kernel<T, In, Exchange::former, kGated, kKeeps>, bytes, shape, inputs, exchange.pointers(),
                  kept, y);
}

}  // namespace

BiWkvOutput bi_wkv_forward(const at::Tensor& w, const at::Tensor& u, const at::Tensor& k, const at::Tensor& v,
                           const at::Tensor& r, bool keeps_sums) {
  BiWkvOutput out{at::empty_like(k, at::MemoryFormat::Contiguous), {}};
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, k.scalar_type(), "bi_wkv", [&] {
    using T = at::opmath_type<scalar_t>;
    ForwardLauncher<T, scalar_t> launcher(w, u, k, v, r, keeps_sums);
    if (keeps_sums) out.sums = launcher.kept_memory();
    if (out.y.numel() == 0) return;
    const KeptSums<T> kept = launcher.kept_pointers(out.sums);
    constexpr bool kMayKeep = sizeof(scalar_t) == 2;
    const auto run_gated = launcher.gated() ? run<true, false, T, scalar_t> : run<false, false, T, scalar_t>;
    const auto run_keeping = launcher.gated() ? run<true, kMayKeep, T, scalar_t> : run<false, kMayKeep, T, scalar_t>;
    (kept.beside != nullptr ? run_keeping : run_gated)(launcher, kept, out.y.mutable_data_ptr<scalar_t>());
  });
  return out;
}

}  // namespace vrwkv::ops::cuda

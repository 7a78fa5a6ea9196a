#include <ATen/Dispatch.h>

#include "ops/cuda/bi_wkv_launch.cuh"
#include "ops/cuda/column_sums.cuh"

namespace vrwkv::ops::cuda {
namespace {

template <typename T, typename In>
using BackwardLauncher = Launcher<T, In, Pass::backward>;

/// With pairs of channels. False, and nothing done, where not even one sequence fits.
template <bool kGated, bool kAlone, typename T, typename In>
bool run_pairs(BackwardLauncher<T, In>& launcher, const KeptSums<T>& kept, const GlobalSums<T>& global,
               const GradientPointers<T, In>& gradients) {
  using Pairs = PairGradients<kGated, kAlone, BackwardPairs<T>, In>;
  const auto kernel = pair_backward_kernel<T, In, kGated, kAlone>;
  const Shape& shape = launcher.shape();
  const int64_t at_once = launcher.sequences_at_once(kernel, Pairs::kBytes, shape.pair_sequences());
  if (at_once == 0) return false;
  launcher.stagger(Pairs::kTokenBytes);
  launcher.launch_running(kernel, Pairs::kBytes, at_once, /*together=*/!kAlone, shape, launcher.inputs(), kept, global,
                          gradients);
  return true;
}

template <bool kGated, typename T, typename In>
void run(BackwardLauncher<T, In>& launcher, const at::Tensor& sums, const GradientPointers<T, In>& gradients) {
  const Shape& shape = launcher.shape();
  const Inputs<T, In> inputs = launcher.inputs();
  const KeptSums<T> kept = launcher.kept_pointers(sums);
  if (shape.chunks == 1) {
    if constexpr (sizeof(In) == 2) {
      if (launcher.backward_pairs() && run_pairs<kGated, true>(launcher, kept, {}, gradients)) return;
    }
    launcher.launch(backward_kernel<T, In, Exchange::none, kGated, false>,
                    launcher.template backward_bytes<Exchange::none, false>(), shape, inputs, ChunkSums<T>{},
                    GlobalSums<T>{}, gradients);
    return;
  }
  const ChunkSums<T>& of_chunks = kept;
  const int bytes = launcher.template backward_bytes<Exchange::running, false>();
  const typename BackwardLauncher<T, In>::ExchangeMemory exchange(launcher);
  if constexpr (sizeof(In) == 2) {
    if (launcher.backward_pairs() && run_pairs<kGated, false>(launcher, kept, exchange.pointers(), gradients)) return;
  }
  if constexpr (sizeof(T) == 4) {
    const auto kernel = backward_kernel<T, In, Exchange::running, kGated, false>;
    if (const int64_t at_once = launcher.sequences_at_once(kernel, bytes, shape.sequences()); at_once > 0) {
      launcher.launch_running(kernel, bytes, at_once, /*together=*/true, shape, inputs, of_chunks, exchange.pointers(),
                              gradients);
      return;
    }
  }
  launcher.launch(backward_kernel<T, In, Exchange::former, kGated, true>,
                  launcher.template backward_bytes<Exchange::former, true>(), shape, inputs, of_chunks,
                  exchange.pointers(), gradients);
  launcher.launch(backward_kernel<T, In, Exchange::former, kGated, false>, bytes, shape, inputs, of_chunks,
                  exchange.pointers(), gradients);
}

}  // namespace

BiWkvGradients bi_wkv_backward(const at::Tensor& w, const at::Tensor& u, const at::Tensor& k, const at::Tensor& v,
                               const at::Tensor& r, const at::Tensor& gy_in, const at::Tensor& sums) {
  const int64_t channels = k.size(2);
  BiWkvGradients out;
  if (r.defined()) {
    const at::Tensor all = at::empty({k.size(0), k.size(1), 3 * channels}, k.options());
    const auto part = [&](int64_t index) { return all.narrow(2, index * channels, channels); };
    out = {.gw = {}, .gu = {}, .gk = part(0), .gv = part(1), .gr = part(2)};
  } else {
    out.gk = at::empty_like(k, at::MemoryFormat::Contiguous);
    out.gv = at::empty_like(out.gk);
  }
  if (k.numel() == 0) {
    out.gw = at::zeros_like(w);
    out.gu = at::zeros_like(u);
    return out;
  }
  const at::Tensor gy = gy_in.contiguous();
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, k.scalar_type(), "bi_wkv_backward", [&] {
    using T = at::opmath_type<scalar_t>;
    BackwardLauncher<T, scalar_t> launcher(w, u, k, v, r);
    launcher.also_reads(gy);
    launcher.check_kept(sums);
    // One sum for each chunk, then a plain sum over them: no atomics, so two runs give equal bits.
    const at::Tensor parts = launcher.scratch({2, launcher.shape().batch * launcher.shape().chunks, channels});
    const at::Tensor gw_parts = parts[0], gu_parts = parts[1];
    const auto pointer = [](const at::Tensor& tensor) { return tensor.mutable_data_ptr<scalar_t>(); };
    const auto run_gated = launcher.gated() ? run<true, T, scalar_t> : run<false, T, scalar_t>;
    run_gated(launcher, sums,
              GradientPointers<T, scalar_t>{gy.const_data_ptr<scalar_t>(), pointer(out.gk), pointer(out.gv),
                                            out.gr.defined() ? pointer(out.gr) : nullptr, out.gk.stride(1),
                                            gw_parts.mutable_data_ptr<T>(), gu_parts.mutable_data_ptr<T>()});
    const at::Tensor gradients = column_sums(parts, 1);
    out.gw = gradients[0].to(w.scalar_type());
    out.gu = gradients[1].to(u.scalar_type());
  });
  return out;
}

}  // namespace vrwkv::ops::cuda

#pragma once

// From tensors to launches of the Bi-WKV kernels: how a shape is divided, and what runs in which order.

#include <ATen/Functions.h>
#include <ATen/OpMathType.h>
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>

#include <algorithm>
#include <array>
#include <limits>

#include "ops/cuda/bi_wkv_kernels.cuh"
#include "ops/cuda/dependent_launch.cuh"
#include "ops/cuda/memory_speed.h"
#include "ops/cuda/vector.cuh"

namespace vrwkv::ops::cuda {

/// Contiguous inputs of one call and their division, for accumulation type T and storage type In. `r` may be undefined.
template <typename T, typename In, Pass kPass>
class Launcher {
 public:
  /// `both_passes`: this is a backward pass, or one follows, and finds the same chunks.
  Launcher(const at::Tensor& w, const at::Tensor& u, const at::Tensor& k, const at::Tensor& v, const at::Tensor& r,
           bool both_passes = true)
      : w_(w.to(c10::CppTypeToScalarType<T>::value).contiguous()),
        u_(u.to(c10::CppTypeToScalarType<T>::value).contiguous()),
        k_(k.contiguous()),
        v_(v.contiguous()),
        r_(r.defined() ? r.contiguous() : r),
        shape_(divide(k.size(0), k.size(1), k.size(2), both_passes)),
        kept_numbers_(count_kept()) {
    shape_.vectorized = rows_are_aligned(k_) && rows_are_aligned(v_) && (!r_.defined() || rows_are_aligned(r_));
  }

  /// A further contiguous [B, T, C] input of the kernels.
  void also_reads(const at::Tensor& tensor) { shape_.vectorized = shape_.vectorized && rows_are_aligned(tensor); }

  const Shape& shape() const { return shape_; }
  /// Whether a block of the forward pass takes pairs of channels: of long sequences.
  bool forward_pairs() const { return shape_.tokens >= kPairTokens && fits_pair_place(); }
  /// The same in the backward pass, for which the forward pass has kept what it needs: of aligned rows of 16-bit
  /// tensors in sequences of several chunks or of one that is whole.
  bool backward_pairs() const { return kept_numbers_.beside > 0 && shape_.vectorized; }
  bool gated() const { return r_.defined(); }

  Inputs<T, In> inputs() const {
    return {w_.const_data_ptr<T>(), u_.const_data_ptr<T>(), k_.const_data_ptr<In>(), v_.const_data_ptr<In>(),
            r_.defined() ? r_.const_data_ptr<In>() : nullptr};
  }

  /// Shared memory of a block in a pass; float64 has no tiles.
  template <Exchange kExchange>
  int forward_bytes() const {
    using Tiles = ForwardTiles<In, kSegment<T, kExchange, kPass>>;
    return SharedMemory<T>::bytes(shape_.warps) + (sizeof(T) == 4 ? Tiles::bytes(shape_.warps, gated()) : 0);
  }
  template <Exchange kExchange, bool kTotalsOnly>
  int backward_bytes() const {
    using Tiles = BackwardTiles<In, kSegment<T, kExchange, kPass>, kTotalsOnly>;
    return SharedMemory<T>::bytes(shape_.warps) + (sizeof(T) == 4 ? Tiles::bytes(shape_.warps) : 0);
  }

  /// Numbers of type T on the device.
  at::Tensor scratch(at::IntArrayRef sizes) const { return at::empty(sizes, w_.options()); }

  /// Memory for what KeptSums points to: one part behind the other, but with sizes that tell what it is of.
  at::Tensor kept_memory() const { return scratch(kept_sizes()); }
  /// Into that, or null.
  KeptSums<T> kept_pointers(const at::Tensor& kept) const {
    KeptSums<T> pointers{};
    if (!kept.defined()) return pointers;
    T* const sums = kept.mutable_data_ptr<T>();
    pointers.sums = reinterpret_cast<Sums<T>*>(sums);
    if (kept_numbers_.beside > 0) {
      pointers.beside = sums + kept_numbers_.sums * elements();
      pointers.frames = pointers.beside + kept_numbers_.beside * elements();
      pointers.segments = segments();
    }
    return pointers;
  }

  /// That a forward pass of the same shape has kept `kept`.
  void check_kept(const at::Tensor& kept) const {
    TORCH_CHECK(kept.sizes() == at::IntArrayRef(kept_sizes()) && kept.scalar_type() == w_.scalar_type() &&
                    kept.device() == k_.device() && kept.is_contiguous(),
                "bi_wkv: the backward pass wants the sums that the forward pass of this shape has kept, ",
                at::IntArrayRef(kept_sizes()), " of ", w_.scalar_type(), " on ", k_.device(), ", got ", kept.sizes(),
                " of ", kept.scalar_type(), " on ", kept.device());
  }

  /// Scratch for an exchange of sums between chunks in global memory.
  class ExchangeMemory {
   public:
    explicit ExchangeMemory(const Launcher& launcher)
        : sums_(launcher.scratch({launcher.kept_numbers_.sums * launcher.elements()})),
          arrived_(at::empty({launcher.shape_.sequences()}, sums_.options().dtype(at::kInt))) {}
    GlobalSums<T> pointers() const {
      return {reinterpret_cast<Sums<T>*>(sums_.mutable_data_ptr<T>()),
              reinterpret_cast<unsigned*>(arrived_.mutable_data_ptr<int>())};
    }

   private:
    at::Tensor sums_, arrived_;
  };

  /// Sequences at a time for blocks that stay: as few as let the kernel take all in as few turns as it can with what
  /// the device holds at once; 0 if that is not even one.
  template <typename Kernel>
  int64_t sequences_at_once(Kernel kernel, int shared_bytes, int64_t sequences) const {
    const cudaDeviceProp& device = *at::cuda::getCurrentDeviceProperties();
    if (static_cast<size_t>(shared_bytes) > device.sharedMemPerBlockOptin) return 0;
    allow_shared_memory(kernel, shared_bytes);
    int blocks = 0;
    C10_CUDA_CHECK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel, kLanes * shape_.warps,
                                                                 static_cast<size_t>(shared_bytes)));
    const int64_t at_once = static_cast<int64_t>(blocks) * device.multiProcessorCount / shape_.chunks;
    if (at_once == 0) return 0;
    const int64_t turns = (sequences + at_once - 1) / at_once;
    return (sequences + turns - 1) / turns;
  }

  /// Lets each sequence of the first turn start when the one before can have been read, of which every block reads
  /// `bytes`: so some are computed while others are read, and sequences that are read together do not hold up each
  /// other. `share`: of that time.
  void stagger(int bytes, double share = 1.0) {
    constexpr double kReached = 0.85;  // Of what the memory promises.
    shape_.sequence_cycles =
        static_cast<int>(share * static_cast<double>(bytes) * shape_.chunks / (kReached * memory_bytes_per_cycle()));
  }

  /// Launches `kernel` with a block for every item.
  template <typename... Parameters>
  void launch(void (*kernel)(Parameters...), int shared_bytes, const Parameters&... arguments) const {
    cuda::launch(kernel, {blocks(shape_.items()), threads(), shared_bytes, /*early=*/true}, arguments...);
  }

  /// Launches `kernel` with blocks for so many sequences at a time, which with `together` are on the device at once.
  template <typename... Parameters>
  void launch_running(void (*kernel)(Parameters...), int shared_bytes, int64_t at_once, bool together,
                      const Parameters&... arguments) const {
    const dim3 grid{static_cast<unsigned>(shape_.chunks), static_cast<unsigned>(at_once)};
    cuda::launch(kernel, {grid, threads(), shared_bytes, /*early=*/!together, together}, arguments...);
  }

 private:
  /// Numbers of the parts of KeptSums, for each channel of each batch element.
  struct KeptNumbers {
    int64_t sums = 0, beside = 0, frames = 0;
  };
  std::array<int64_t, 3> kept_sizes() const {
    return {shape_.batch, shape_.channels, kept_numbers_.sums + kept_numbers_.beside + kept_numbers_.frames};
  }
  int64_t elements() const { return shape_.batch * shape_.channels; }

  int64_t segments() const { return static_cast<int64_t>(shape_.chunks) * BackwardPairs<float>::kWarps; }
  KeptNumbers count_kept() const {
    constexpr int64_t kOfSums = sizeof(Sums<T>) / sizeof(T);
    KeptNumbers numbers;
    if (shape_.chunks > 1) numbers.sums = 2 * shape_.chunks * kOfSums;
    const bool is_whole = shape_.chunks > 1 || shape_.warps == BackwardPairs<float>::kWarps;
    if (sizeof(In) == 2 && rows_are_pieces(shape_.channels) && is_whole && fits_pair_place()) {
      numbers.beside = 2 * segments() * 2;
      numbers.frames = shape_.chunks;
    }
    return numbers;
  }

  bool fits_pair_place() const {
    constexpr int64_t kMost = std::numeric_limits<int>::max();
    return shape_.batch * shape_.tokens <= kMost && shape_.channels * static_cast<int64_t>(sizeof(Sums<T>)) <= kMost;
  }
  static constexpr size_t kPieceBytes = 16;
  /// Whether rows of so many channels are whole pieces.
  static bool rows_are_pieces(int64_t channels) {
    return static_cast<size_t>(channels) * sizeof(In) % kPieceBytes == 0;
  }
  /// Whether each row of `tensor` starts at a multiple of a piece.
  static bool rows_are_aligned(const at::Tensor& tensor) {
    return is_aligned(tensor, kPieceBytes) && rows_are_pieces(tensor.size(2));
  }

  /// Tokens of a chunk where there are several.
  static int64_t chunk_tokens(int64_t tokens, bool both_passes) {
    const bool is_long = !both_passes && sizeof(T) == 4 && tokens >= kLongTokens &&
                         at::cuda::getCurrentDeviceProperties()->sharedMemPerBlockOptin >= kTwoLongChunksBytes;
    return is_long ? 2 * kChunkTokens<T> : kChunkTokens<T>;
  }

  /// One chunk if it can hold all tokens, else several.
  static Shape divide(int64_t batch, int64_t tokens, int64_t channels, bool both_passes) {
    Shape shape{batch, tokens, channels, 1, 1, static_cast<int>((channels + kLanes - 1) / kLanes), false, 0, 0, 1, 1};
    shape.by_pair_groups = std::max(static_cast<unsigned>(shape.pair_groups()), 1U);
    if (tokens <= kTokensAlone<T>) {
      constexpr int kTokens = kSegment<T, Exchange::none, kPass>;
      shape.warps = (static_cast<int>(tokens) + kTokens - 1) / kTokens;
      return shape;
    }
    constexpr int kTokens = kSegment<T, Exchange::running, kPass>;
    static_assert(kChunkTokens<T> % kTokens == 0);
    const int64_t of_chunk = chunk_tokens(tokens, both_passes), chunks = (tokens + of_chunk - 1) / of_chunk;
    TORCH_CHECK(chunks <= std::numeric_limits<int>::max(), "bi_wkv: a sequence of ", tokens,
                " tokens is too long for CUDA");
    shape.chunks = static_cast<int>(chunks);
    shape.by_other_chunks = static_cast<unsigned>(chunks - 1);
    shape.all_sums = batch * chunks * channels;
    shape.warps = static_cast<int>(of_chunk / kTokens);
    return shape;
  }

  static unsigned int blocks(int64_t count) {
    TORCH_CHECK(count <= std::numeric_limits<int>::max(), "bi_wkv: the input is too large for one launch (", count,
                " blocks); split the batch");
    return static_cast<unsigned int>(count);
  }

  dim3 threads() const { return {kLanes, static_cast<unsigned int>(shape_.warps)}; }

  at::Tensor w_, u_, k_, v_, r_;
  Shape shape_;
  KeptNumbers kept_numbers_;
};

/// With `r`, y is multiplied by sigmoid(r). `sums`, where asked for, is what the backward pass wants to have kept:
/// KeptSums.
struct BiWkvOutput {
  at::Tensor y, sums;
};
BiWkvOutput bi_wkv_forward(const at::Tensor& w, const at::Tensor& u, const at::Tensor& k, const at::Tensor& v,
                           const at::Tensor& r, bool keeps_sums);

/// gr stays undefined without `r`; with it, gk, gv and gr lie side by side in one [B, T, 3 C] tensor.
struct BiWkvGradients {
  at::Tensor gw, gu, gk, gv, gr;
};
BiWkvGradients bi_wkv_backward(const at::Tensor& w, const at::Tensor& u, const at::Tensor& k, const at::Tensor& v,
                               const at::Tensor& r, const at::Tensor& gy, const at::Tensor& sums);

}  // namespace vrwkv::ops::cuda

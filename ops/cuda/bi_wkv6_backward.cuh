#pragma once

// Backward kernel of bi_wkv6. A score's gradient reaches every decay that lies between its two tokens; each factor of
// the forward pass is a product of decays, so a decay's gradient is the sum, over the factors that contain it, of
// factor times the factor's gradient: nothing is divided or subtracted.

#include "ops/cuda/bi_wkv6_kernels.cuh"

namespace vrwkv::ops::cuda::wkv6 {

/// gy and results [B, T, heads * 64], and gu [items, 64]: each item's part.
template <typename T, typename In>
struct Gradients {
  const In* gy;
  In *gr, *gk, *gv;
  T *gw, *gu;
};

/// Chunks whose states are recomputed at once and kept in shared memory.
inline constexpr int kStretch = 2;

/// Numbers of type T in shared memory, and in a block's own global scratch.
template <typename T>
constexpr int64_t backward_shared() {
  return kWarps * (Turned<T>::kSize + KeyRows<T, Mma<T>>::kKeySize) + WarpSums<T>::kSize +
         kStretch * static_cast<int64_t>(kStateSize);
}
constexpr int64_t kKeptPerChunk = 32 * kThreads;
template <typename T>
constexpr int64_t backward_scratch(int segment) {
  const int chunks = segment / kChunk;
  return chunks * kKeptPerChunk + (chunks + kStretch - 1) / kStretch * static_cast<int64_t>(kStateSize);
}

/// For tokens row and row + 8, sums of a quantity over the tokens before each within its run, and after it.
template <typename T, int kRun>
__device__ __forceinline__ void sum_neighbours(Rows<T>& before, Rows<T>& after, Rows<T>& whole, const Lane& lane) {
#pragma unroll
  for (int run = 1; run < kRun; run *= 2) {
    const bool later = (lane.row & run) != 0;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const T other = __shfl_xor_sync(kWholeWarp, whole[i / 4][i % 4], 4 * run);
      before[i / 4][i % 4] += later ? other : T(0);
      after[i / 4][i % 4] += later ? T(0) : other;
      whole[i / 4][i % 4] += other;
    }
  }
}

/// Adds to a decay's gradient `z`, factor times gradient, of the tokens whose way to their middle it is part of.
template <int kLevel, typename T>
__device__ __forceinline__ void add_ways(Rows<T>& sums, Rows<T>& z, const Lane& lane) {
  Rows<T> before = {}, after = {};
  sum_neighbours<T, kLevel>(before, after, z, lane);
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const bool later = kLevel == 8 ? i / 4 == 1 : (lane.row & kLevel) != 0;
    sums[i / 4][i % 4] += later ? after[i / 4][i % 4] : before[i / 4][i % 4];
  }
}

/// The same for factors that reach from the chunk's first token up to each token, and from each to the last.
template <typename T>
__device__ __forceinline__ void add_ways_to_ends(Rows<T>& sums, Rows<T>& from_first, Rows<T>& to_last,
                                                 const Lane& lane) {
  Rows<T> unused = {}, after = {}, before = {}, ignored = {};
  sum_neighbours<T, 8>(unused, after, from_first, lane);
  sum_neighbours<T, 8>(before, ignored, to_last, lane);
#pragma unroll
  for (int x = 0; x < 4; ++x) {
    sums[0][x] += after[0][x] + from_first[1][x] + before[0][x];
    sums[1][x] += after[1][x] + before[1][x] + to_last[0][x];
  }
}

/// Tokens row and row + 8, channels 16 pair + 0..15 of the head.
template <typename T, typename In>
__device__ __forceinline__ void load_tokens(T (&tokens)[2][16], const In* from, int64_t stride, int count,
                                            const Lane& lane) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int token = lane.row + 8 * (i / 2);
    Vector<In, 8> read{};
    if (token < count) read = load_vector<8>(from + token * stride + 16 * lane.pair + 8 * (i % 2));
#pragma unroll
    for (int x = 0; x < 8; ++x) tokens[i / 2][8 * (i % 2) + x] = static_cast<T>(read.values[x]);
  }
}

template <typename Out, typename T>
__device__ __forceinline__ void store_rows(Out* to, const Rows<T>& rows, int64_t stride, int count, const Lane& lane) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int token = lane.row + 8 * half;
    if (token >= count) continue;
    Vector<Out, 4> out;
#pragma unroll
    for (int x = 0; x < 4; ++x) out.values[x] = static_cast<Out>(rows[half][x]);
    store_vector(to + token * stride + 16 * lane.warp + 4 * lane.pair, out);
  }
}

/// Gradients of one chunk, as a thread has them.
template <typename T>
struct ChunkGradients {
  Rows<T> r = {}, k = {}, decay = {};
};

/// What one block needs for one item.
template <typename T, typename In>
struct Backward {
  using M = Mma<T>;
  const Item& item;
  const Inputs<T, In>& in;
  const Gradients<T, In>& out;
  Lane lane;
  Turned<T> turned;
  T *place, *exchange, *stash, *kept, *starts;
  T bonus[4], gu[4] = {};

  template <bool kReversed>
  __device__ void advance(KeyRows<T, M>& state, int chunk) const {
    Rows<T> k, rate, decay, scaled;
    Columns<T> v;
    load_decays(rate, decay, in.w + item.at(chunk), item.stride, item.count(chunk), lane);
    load_rows<T>(k, in.k + item.at(chunk), item.stride, item.count(chunk), lane);
    load_columns<T>(v, in.v + item.at(chunk), item.stride, item.count(chunk), lane);
    Decays<T> products(decay);
    products.reach_ends(lane);
    multiply(scaled, k, kReversed ? products.before : products.after);
    T keys[2][2][2];
    turned.rows(keys, scaled, lane);
    state.advance(products.whole[0], keys, v, lane);
  }

  /// gy v^T over all values: what a score of token row + 8 (c / 2) and another one adds to the loss, and, of token row
  /// + 8 half and itself.
  __device__ __forceinline__ void score_gradients(Scores<T>& gradients, T (&self)[2], const T (&v)[2][16],
                                                  const T (&gy)[2][16]) const {
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      const T left[4]{gy[0][j], gy[1][j], gy[0][8 + j], gy[1][8 + j]};
#pragma unroll
      for (int m = 0; m < 2; ++m) {
        const T right[2]{v[m][j], v[m][8 + j]};
        M::add(gradients[m], left, right);
      }
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
#pragma unroll
      for (int j = 0; j < 16; ++j) self[half] += gy[half][j] * v[half][j];
      self[half] += __shfl_xor_sync(kWholeWarp, self[half], 1);
      self[half] += __shfl_xor_sync(kWholeWarp, self[half], 2);
    }
  }

  /// Pairs of tokens of the chunk: their gradients, and their scores transposed. Leaves `products` reaching to the
  /// chunk's ends.
  __device__ __forceinline__ void within_chunk(ChunkGradients<T>& g, Scores<T>& scores, Decays<T>& products,
                                               const Rows<T>& r, const Rows<T>& k, const Scores<T>& gradients,
                                               const T (&self)[2]) {
    Scores<T> turned_gradients;
    turned.scores(turned_gradients, gradients, lane);
    products.for_each_level(lane, [&](auto level, const Rows<T>& way) {
      Rows<T> near_r, near_k, z;
      Scores<T> found = {}, at_level = {}, turned_at_level = {};
      multiply(near_r, r, way);
      multiply(near_k, k, way);
      add_scores<M>(found, near_k, near_r);
      keep_level<level>(scores, found, lane);
      keep_level<level>(at_level, gradients, lane);
      keep_level<level>(turned_at_level, turned_gradients, lane);
      Rows<T> gr, gk;
      weigh(gr, at_level, near_k);
      weigh(gk, turned_at_level, near_r);
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        const T r_part = gr[i / 4][i % 4] * way[i / 4][i % 4], k_part = gk[i / 4][i % 4] * way[i / 4][i % 4];
        g.r[i / 4][i % 4] += r_part;
        g.k[i / 4][i % 4] += k_part;
        z[i / 4][i % 4] = r[i / 4][i % 4] * r_part + k[i / 4][i % 4] * k_part;
      }
      add_ways<level>(g.decay, z, lane);
    });
#pragma unroll
    for (int half = 0; half < 2; ++half) {
#pragma unroll
      for (int x = 0; x < 4; ++x) {
        g.r[half][x] += bonus[x] * k[half][x] * self[half];
        g.k[half][x] += bonus[x] * r[half][x] * self[half];
        gu[x] += r[half][x] * k[half][x] * self[half];
      }
    }
    set_diagonal(scores, self_scores(r, k, bonus), lane);
  }

  /// sums = weights rows, over the chunk's tokens.
  __device__ __forceinline__ void weigh(Rows<T>& sums, const Scores<T>& weights, const Rows<T>& rows) const {
    T right_rows[2][2][2], part[2][4] = {};
    turned.rows(right_rows, rows, lane);
#pragma unroll
    for (int m = 0; m < 2; ++m) {
      const Left<T> left = left_of_scores(weights, m);
#pragma unroll
      for (int n = 0; n < 2; ++n) {
        const T right[2]{right_rows[m][0][n], right_rows[m][1][n]};
        M::add(part[n], left.values, right);
      }
    }
#pragma unroll
    for (int i = 0; i < 8; ++i) sums[i / 4][i % 4] = part[i % 4 / 2][2 * (i / 4) + i % 2];
  }

  /// One chunk's gradients: from the state before it in the walk, and the states' gradient after it, which becomes that
  /// of the state before it. Registers are what is scarce: everything is loaded just before its use.
  template <bool kReversed>
  __device__ void chunk_gradients(int chunk, const T* state_place, KeyRows<T, M>& adjoint) {
    const int count = item.count(chunk);
    const int64_t at = item.at(chunk);
    Rows<T> read, gathered;
    Scores<T> gradients = {}, scores = {};
    T self[2] = {}, across[4];
    {
      T v[2][16], gy[2][16];
      load_tokens(v, in.v + at, item.stride, count, lane);
      load_tokens(gy, out.gy + at, item.stride, count, lane);
      if constexpr (!kReversed) score_gradients(gradients, self, v, gy);
      adjoint.gather(gathered, v);
      KeyRows<T, M> state;
      state.restore(state_place);
      state.gather(read, gy);
      state.dot(across, adjoint, lane);
    }
    ChunkGradients<T> g;
    Rows<T> r, k, rate, decay;
    load_decays(rate, decay, in.w + at, item.stride, count, lane);
    load_rows<T>(r, in.r + at, item.stride, count, lane);
    load_rows<T>(k, in.k + at, item.stride, count, lane);
    Decays<T> products(decay);
    if constexpr (kReversed) {
      products.reach_ends(lane);
    } else {
      within_chunk(g, scores, products, r, k, gradients, self);
    }
    const Rows<T>&enter = kReversed ? products.after : products.before,
          &leave = kReversed ? products.before : products.after;
    multiply(read, read, enter);
    multiply(gathered, gathered, leave);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      g.decay[i / 4][i % 4] += across[i % 4] * products.whole[0][i % 4];
      g.r[i / 4][i % 4] += read[i / 4][i % 4];
      g.k[i / 4][i % 4] += gathered[i / 4][i % 4];
    }
    multiply(read, read, r);
    multiply(gathered, gathered, k);
    add_ways_to_ends(g.decay, kReversed ? gathered : read, kReversed ? read : gathered, lane);
    finish_rows<kReversed>(chunk, g, rate);

    Columns<T> gy_columns;
    load_columns<T>(gy_columns, out.gy + at, item.stride, count, lane);
    T gv[8][4] = {};
    if constexpr (!kReversed) add_weighted<M>(gv, scores, gy_columns);
    multiply(k, k, leave);
    adjoint.read(gv, k, place, lane);
    multiply(r, r, enter);
    T keys[2][2][2];
    turned.rows(keys, r, lane);
    adjoint.advance(products.whole[0], keys, gy_columns, lane);
    finish_values<kReversed>(chunk, gv);
  }

  /// Keeps the first walk's `part` of a chunk's gradients, or adds it to the second's.
  template <bool kReversed>
  __device__ __forceinline__ void add_walks(int chunk, int part, T* values) const {
    T* const here = kept + chunk * kKeptPerChunk + (part * kThreads + threadIdx.x) * 4;
    if constexpr (kReversed) {
      const auto before = load_vector<4>(here);
#pragma unroll
      for (int x = 0; x < 4; ++x) values[x] += before.values[x];
    } else {
      store_vector(here, Vector<T, 4>{values[0], values[1], values[2], values[3]});
    }
  }

  template <bool kReversed>
  __device__ __forceinline__ void finish_rows(int chunk, ChunkGradients<T>& g, const Rows<T>& rate) const {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      add_walks<kReversed>(chunk, half, g.r[half]);
      add_walks<kReversed>(chunk, 2 + half, g.k[half]);
      add_walks<kReversed>(chunk, 4 + half, g.decay[half]);
    }
    if constexpr (kReversed) {
      const int count = item.count(chunk);
      const int64_t at = item.at(chunk);
      // d log(decay) / dw = -exp(w); where that leaves the range, the decay is 0 and takes no gradient.
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        const T x = rate[i / 4][i % 4];
        g.decay[i / 4][i % 4] = isinf(x) ? T(0) : -x * g.decay[i / 4][i % 4];
      }
      store_rows(out.gr + at, g.r, item.stride, count, lane);
      store_rows(out.gk + at, g.k, item.stride, count, lane);
      store_rows(out.gw + at, g.decay, item.stride, count, lane);
    }
  }

  template <bool kReversed>
  __device__ __forceinline__ void finish_values(int chunk, const T (&parts)[8][4]) const {
    T gv[8];
    WarpSums<T>::add_up(gv, parts, exchange, lane);
    add_walks<kReversed>(chunk, 6, gv);
    add_walks<kReversed>(chunk, 7, gv + 4);
    if constexpr (kReversed) store_sums(out.gv + item.at(chunk), gv, item.stride, item.count(chunk), lane);
  }

  /// One direction: states along the walk, at the start of every stretch; then, backwards, those within each.
  template <bool kReversed>
  __device__ void walk(const T* entry, const T* adjoint_entry) {
    const int chunks = item.chunks(), stretches = (chunks + kStretch - 1) / kStretch;
    KeyRows<T, M> state, adjoint;
    state.load(entry, lane);
    for (int n = 0; n < chunks; ++n) {
      if (n % kStretch == 0) state.keep(starts + n / kStretch * kStateSize);
      if (n + kStretch >= chunks && n % kStretch == 0) break;
      advance<kReversed>(state, walked<kReversed>(n, chunks));
    }
    adjoint.load(adjoint_entry, lane);
    for (int stretch = stretches - 1; stretch >= 0; --stretch) {
      const int first = stretch * kStretch, end = chunks < first + kStretch ? chunks : first + kStretch;
      state.restore(starts + stretch * kStateSize);
      for (int n = first; n < end; ++n) {
        state.keep(stash + (n - first) * kStateSize);
        if (n + 1 < end) advance<kReversed>(state, walked<kReversed>(n, chunks));
      }
      for (int n = end - 1; n >= first; --n) {
        chunk_gradients<kReversed>(walked<kReversed>(n, chunks), stash + (n - first) * kStateSize, adjoint);
      }
    }
  }
};

/// Blocks take items in turn, each with scratch of its own. `states` of k^T v and `adjoints` of r^T gy as
/// carry_states_kernel leaves them; null where sequences are one segment.
template <typename T, typename In>
__global__ void __launch_bounds__(kThreads, 2) backward_kernel(Shape shape, Inputs<T, In> in, Gradients<T, In> out,
                                                               const T* states, const T* adjoints, T* scratch) {
  extern __shared__ __align__(16) unsigned char raw[];
  T* const shared = reinterpret_cast<T*>(raw);
  const Lane lane;
  constexpr int kPlace = KeyRows<T, Mma<T>>::kKeySize;
  T* const places = shared + kWarps * Turned<T>::kSize;
  T* const exchange = places + kWarps * kPlace;
  T* const kept = scratch + blockIdx.x * backward_scratch<T>(shape.segment);
  for (int64_t index = blockIdx.x; index < shape.items(); index += gridDim.x) {
    const Item item(shape, index);
    Backward<T, In> backward{item,
                             in,
                             out,
                             lane,
                             {shared + lane.warp * Turned<T>::kSize},
                             places + lane.warp * kPlace,
                             exchange,
                             exchange + WarpSums<T>::kSize,
                             kept,
                             kept + shape.segment / kChunk * kKeptPerChunk,
                             {}};
#pragma unroll
    for (int x = 0; x < 4; ++x) {
      backward.bonus[x] = in.u[item.head * kSide + 16 * lane.warp + 4 * lane.pair + x];
    }
    const auto entry = [&](const T* all, int direction) {
      return all == nullptr ? nullptr : all + (index * 2 + direction) * kStateSize;
    };
    backward.template walk<false>(entry(states, 0), entry(adjoints, 1));
    backward.template walk<true>(entry(states, 1), entry(adjoints, 0));
#pragma unroll
    for (int x = 0; x < 4; ++x) {
      T sum = backward.gu[x];
      for (int row = 1; row < 8; row *= 2) sum += __shfl_xor_sync(kWholeWarp, sum, 4 * row);
      if (lane.row == 0) out.gu[index * kSide + 16 * lane.warp + 4 * lane.pair + x] = sum;
    }
  }
}

}  // namespace vrwkv::ops::cuda::wkv6

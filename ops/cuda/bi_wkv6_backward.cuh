#pragma once

// Backward kernel of bi_wkv6. A score's gradient reaches every decay that lies between its two tokens; each factor of
// the forward pass is a product of decays, so a decay's gradient is the sum, over the factors that contain it, of factor
// times the factor's gradient: nothing is divided or subtracted.

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
template <typename T>
inline constexpr int kStretch = 16 / sizeof(T);

/// Numbers of type T in shared memory, and in a block's own global scratch.
template <typename T>
constexpr int64_t backward_shared() {
  return kWarps * Turned<T>::kSize + WarpSums<T>::kSize + kStretch<T> * static_cast<int64_t>(kStateSize);
}
constexpr int64_t kKeptPerChunk = 32 * kThreads;
template <typename T>
constexpr int64_t backward_scratch(int segment) {
  const int chunks = segment / kChunk;
  return chunks * kKeptPerChunk + (chunks + kStretch<T> - 1) / kStretch<T> * static_cast<int64_t>(kStateSize);
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
  T v[8][4] = {};  ///< As WarpSums takes it.
};

/// What one block needs for one item.
template <typename T, typename In, bool kExact>
struct Backward {
  using M = Mma<T, kExact>;
  const Item& item;
  const Inputs<T, In>& in;
  const Gradients<T, In>& out;
  Lane lane;
  Turned<T> turned;
  T *exchange, *stash, *kept, *starts;
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

  /// Pairs of tokens of the chunk; leaves `products` reaching to the chunk's ends.
  __device__ void within_chunk(ChunkGradients<T>& g, Decays<T>& products, const Rows<T>& r, const Rows<T>& k,
                               const T (&v)[2][16], const T (&gy)[2][16], const Columns<T>& gy_columns) {
    Scores<T> score_gradients = {}, turned_gradients, scores = {};  // scores: of the transpose, [s][t].
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      const T left[4]{gy[0][j], gy[1][j], gy[0][8 + j], gy[1][8 + j]};
#pragma unroll
      for (int m = 0; m < 2; ++m) {
        const T right[2]{v[m][j], v[m][8 + j]};
        M::add(score_gradients[m], left, right);
      }
    }
    turned.scores(turned_gradients, score_gradients, lane);
    products.for_each_level(lane, [&](auto level, const Rows<T>& way) {
      Rows<T> near_r, near_k, z;
      Scores<T> found = {}, at_level = {}, turned_at_level = {};
      multiply(near_r, r, way);
      multiply(near_k, k, way);
      add_scores<M>(found, near_k, near_r);
      keep_level<level>(scores, found, lane);
      keep_level<level>(at_level, score_gradients, lane);
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
      T common = 0;
#pragma unroll
      for (int j = 0; j < 16; ++j) common += gy[half][j] * v[half][j];
      common += __shfl_xor_sync(kWholeWarp, common, 1);
      common += __shfl_xor_sync(kWholeWarp, common, 2);
#pragma unroll
      for (int x = 0; x < 4; ++x) {
        g.r[half][x] += bonus[x] * k[half][x] * common;
        g.k[half][x] += bonus[x] * r[half][x] * common;
        gu[x] += r[half][x] * k[half][x] * common;
      }
    }
    set_diagonal(scores, self_scores(r, k, bonus), lane);
    add_weighted<M>(g.v, scores, gy_columns);
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

  /// One chunk's gradients: from the state before it in the walk, and the states' gradient after it, twice.
  template <bool kReversed>
  __device__ void chunk_gradients(int chunk, const T* state_place, KeyRows<T, M>& adjoint,
                                  KeyColumns<T, M>& adjoint_columns) {
    const int count = item.count(chunk);
    const int64_t at = item.at(chunk);
    ChunkGradients<T> g;
    Rows<T> r, k, rate, decay;
    Columns<T> gy_columns;
    load_decays(rate, decay, in.w + at, item.stride, count, lane);
    load_rows<T>(r, in.r + at, item.stride, count, lane);
    load_rows<T>(k, in.k + at, item.stride, count, lane);
    load_columns<T>(gy_columns, out.gy + at, item.stride, count, lane);
    Decays<T> products(decay);
    Rows<T> read, gathered;
    {
      T v[2][16], gy[2][16];
      load_tokens(v, in.v + at, item.stride, count, lane);
      load_tokens(gy, out.gy + at, item.stride, count, lane);
      if constexpr (kReversed) {
        products.reach_ends(lane);
      } else {
        within_chunk(g, products, r, k, v, gy, gy_columns);
      }
      KeyRows<T, M> state;
      state.restore(state_place);
      state.gather(read, gy);
      adjoint.gather(gathered, v);
      T across[4];
      state.dot(across, adjoint, lane);
#pragma unroll
      for (int i = 0; i < 8; ++i) g.decay[i / 4][i % 4] += across[i % 4] * products.whole[0][i % 4];
    }
    const Rows<T>&enter = kReversed ? products.after : products.before,
          &leave = kReversed ? products.before : products.after;
    multiply(read, read, enter);
    multiply(gathered, gathered, leave);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      g.r[i / 4][i % 4] += read[i / 4][i % 4];
      g.k[i / 4][i % 4] += gathered[i / 4][i % 4];
    }
    multiply(read, read, r);
    multiply(gathered, gathered, k);
    add_ways_to_ends(g.decay, kReversed ? gathered : read, kReversed ? read : gathered, lane);
    Rows<T> scaled;
    multiply(scaled, k, leave);
    adjoint_columns.read(g.v, scaled);
    multiply(scaled, r, enter);
    T keys[2][2][2];
    turned.rows(keys, scaled, lane);
    adjoint.advance(products.whole[0], keys, gy_columns, lane);
    adjoint_columns.advance(products.whole[0], keys, gy_columns);
    finish<kReversed>(chunk, g, rate);
  }

  /// Keeps the first walk's part; adds the second's to it and writes the sum.
  template <bool kReversed>
  __device__ void finish(int chunk, ChunkGradients<T>& g, const Rows<T>& rate) const {
    T gv[8];
    WarpSums<T>::add_up(gv, g.v, exchange, lane);
    T* const place = kept + chunk * kKeptPerChunk + threadIdx.x * 4;
    const auto exchange_part = [&](int part, T* values) {
      T* const here = place + part * kThreads * 4;
      if constexpr (kReversed) {
        const auto before = load_vector<4>(here);
#pragma unroll
        for (int x = 0; x < 4; ++x) values[x] += before.values[x];
      } else {
        store_vector(here, Vector<T, 4>{values[0], values[1], values[2], values[3]});
      }
    };
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      exchange_part(half, g.r[half]);
      exchange_part(2 + half, g.k[half]);
      exchange_part(4 + half, g.decay[half]);
      exchange_part(6 + half, gv + 4 * half);
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
      store_sums(out.gv + at, gv, item.stride, count, lane);
    }
  }

  /// One direction: states along the walk, at the start of every stretch; then, backwards, those within each.
  template <bool kReversed>
  __device__ void walk(const T* entry, const T* adjoint_entry) {
    const int chunks = item.chunks(), stretches = (chunks + kStretch<T> - 1) / kStretch<T>;
    KeyRows<T, M> state, adjoint;
    KeyColumns<T, M> adjoint_columns;
    state.load(entry, lane);
    for (int n = 0; n < chunks; ++n) {
      if (n % kStretch<T> == 0) state.keep(starts + n / kStretch<T> * kStateSize);
      if (n + kStretch<T> >= chunks && n % kStretch<T> == 0) break;
      advance<kReversed>(state, walked<kReversed>(n, chunks));
    }
    adjoint.load(adjoint_entry, lane);
    adjoint_columns.load(adjoint_entry, lane);
    for (int stretch = stretches - 1; stretch >= 0; --stretch) {
      const int first = stretch * kStretch<T>, end = chunks < first + kStretch<T> ? chunks : first + kStretch<T>;
      state.restore(starts + stretch * kStateSize);
      for (int n = first; n < end; ++n) {
        state.keep(stash + (n - first) * kStateSize);
        if (n + 1 < end) advance<kReversed>(state, walked<kReversed>(n, chunks));
      }
      for (int n = end - 1; n >= first; --n) {
        chunk_gradients<kReversed>(walked<kReversed>(n, chunks), stash + (n - first) * kStateSize, adjoint,
                                   adjoint_columns);
      }
    }
  }
};

/// Blocks take items in turn, each with scratch of its own. `states` of k^T v and `adjoints` of r^T gy as
/// carry_states_kernel leaves them; null where sequences are one segment.
template <typename T, typename In, bool kExact>
__global__ void __launch_bounds__(kThreads)
    backward_kernel(Shape shape, Inputs<T, In> in, Gradients<T, In> out, const T* states, const T* adjoints,
                    T* scratch) {
  extern __shared__ __align__(16) unsigned char raw[];
  T* const shared = reinterpret_cast<T*>(raw);
  const Lane lane;
  T* const exchange = shared + kWarps * Turned<T>::kSize;
  T* const kept = scratch + blockIdx.x * backward_scratch<T>(shape.segment);
  for (int64_t index = blockIdx.x; index < shape.items(); index += gridDim.x) {
    const Item item(shape, index);
    Backward<T, In, kExact> backward{item,
                                     in,
                                     out,
                                     lane,
                                     {shared + lane.warp * Turned<T>::kSize},
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

#pragma once

// Forward kernels of bi_wkv6, and what both passes share: states at the ends of segments.

#include "ops/cuda/bi_wkv6_state.cuh"

namespace vrwkv::ops::cuda::wkv6 {

/// Contiguous inputs: [B, T, heads * 64], u [heads, 64].
template <typename T, typename In>
struct Inputs {
  const In *r, *k, *v;
  const T *w, *u;
};

/// The chunk that is walked over as the n-th.
template <bool kReversed>
__device__ __forceinline__ int walked(int n, int chunks) {
  return kReversed ? chunks - 1 - n : n;
}

/// Writes what each segment adds to the state of a walk over its tokens, as [items, 2 directions, 64 keys, 64 values],
/// and the product of its decays, [items, 64]. One block for every item and direction.
template <typename T, typename In, bool kReversed>
__device__ __forceinline__ void segment_state(const Shape& shape, const In* keys, const In* values, const T* w,
                                              T* states, T* decays, T* shared) {
  using M = Mma<T>;
  const Lane lane;
  const Item item(shape, blockIdx.x / 2);
  const Turned<T> turned{shared + lane.warp * Turned<T>::kSize};
  KeyColumns<T, M> state;
  state.load(nullptr, lane);
  T total[4] = {T(1), T(1), T(1), T(1)};
  for (int n = 0; n < item.chunks(); ++n) {
    const int chunk = walked<kReversed>(n, item.chunks());
    Rows<T> key, rate, decay, kept;
    Columns<T> value;
    load_decays(rate, decay, w + item.at(chunk), item.stride, item.count(chunk), lane);
    load_rows<T>(key, keys + item.at(chunk), item.stride, item.count(chunk), lane);
    load_columns<T>(value, values + item.at(chunk), item.stride, item.count(chunk), lane);
    Decays<T> products(decay);
    products.reach_ends(lane);
    multiply(kept, key, kReversed ? products.before : products.after);
    T turned_keys[2][2][2];
    turned.rows(turned_keys, kept, lane);
    state.advance(products.whole[0], turned_keys, value);
#pragma unroll
    for (int x = 0; x < 4; ++x) total[x] *= products.whole[0][x];
  }
  state.store(states + static_cast<int64_t>(blockIdx.x) * kStateSize, lane);
  if constexpr (!kReversed) {
    if (lane.row != 0) return;
#pragma unroll
    for (int x = 0; x < 4; ++x) decays[item.index * kSide + 16 * lane.warp + 4 * lane.pair + x] = total[x];
  }
}

template <typename T, typename In>
__global__ void __launch_bounds__(kThreads)
    segment_states_kernel(Shape shape, const In* keys, const In* values, const T* w, T* states, T* decays) {
  __shared__ T shared[kWarps * Turned<T>::kSize];
  if (blockIdx.x % 2 == 0) {
    segment_state<T, In, false>(shape, keys, values, w, states, decays, shared);
  } else {
    segment_state<T, In, true>(shape, keys, values, w, states, decays, shared);
  }
}

/// How carry_states_kernel divides a state, and how many segments' loads are under way at once.
constexpr int kCarried = 2, kCarryThreads = 128, kAhead = 16;

/// Replaces what each segment adds by the state before it in the walk. Blocks: sequences, directions, parts of a state,
/// of which a thread has kCarried numbers of one key. No load waits for the carry.
template <typename T>
__global__ void __launch_bounds__(kCarryThreads) carry_states_kernel(Shape shape, T* states, const T* decays) {
  const int element = kCarried * static_cast<int>(blockIdx.z * kCarryThreads + threadIdx.x);
  const auto item = [&](int n) {
    const int segment = blockIdx.y == 0 ? n : shape.segments - 1 - n;
    return static_cast<int64_t>(blockIdx.x) * shape.segments + segment;
  };
  const auto place = [&](int n) { return states + (item(n) * 2 + blockIdx.y) * kStateSize + element; };
  Vector<T, kCarried> entry{};
  for (int first = 0; first < shape.segments; first += kAhead) {
    Vector<T, kCarried> added[kAhead];
    T decay[kAhead];
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      if (first + i >= shape.segments) continue;
      added[i] = load_vector<kCarried>(place(first + i));
      decay[i] = decays[item(first + i) * kSide + element / kSide];
    }
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      if (first + i >= shape.segments) continue;
      store_vector(place(first + i), entry);
#pragma unroll
      for (int x = 0; x < kCarried; ++x) entry.values[x] = decay[i] * entry.values[x] + added[i].values[x];
    }
  }
}

/// Numbers of type T that forward_kernel needs in shared memory: its last part keeps results of the walk against time.
template <typename T>
constexpr int64_t forward_shared(int segment) {
  return kWarps * Turned<T>::kSize + WarpSums<T>::kSize + static_cast<int64_t>(segment) * kSide;
}

/// One item: what tokens read from the walk against time, kept in shared memory, then what they read from their own
/// chunk and the walk with time. `states` as carry_states_kernel leaves them; null where sequences are one segment.
template <typename T, typename In>
__global__ void __launch_bounds__(kThreads, 2) forward_kernel(Shape shape, Inputs<T, In> in, const T* states, In* y) {
  using M = Mma<T>;
  extern __shared__ __align__(16) unsigned char raw[];
  T* const shared = reinterpret_cast<T*>(raw);
  const Lane lane;
  const Item item(shape, blockIdx.x);
  const Turned<T> turned{shared + lane.warp * Turned<T>::kSize};
  T* const exchange = shared + kWarps * Turned<T>::kSize;
  T* const later = exchange + WarpSums<T>::kSize + threadIdx.x * 4;
  const auto kept = [&](int chunk, int g) { return later + (chunk * 2 + g) * kThreads * 4; };
  const auto entry = [&](int direction) {
    return states == nullptr ? nullptr : states + (item.index * 2 + direction) * kStateSize;
  };
  T bonus[4];
#pragma unroll
  for (int x = 0; x < 4; ++x) bonus[x] = in.u[item.head * kSide + 16 * lane.warp + 4 * lane.pair + x];

  const auto walk = [&](auto reversed) {
    constexpr bool kReversed = reversed;
    KeyColumns<T, M> state;
    state.load(entry(kReversed ? 1 : 0), lane);
    for (int n = 0; n < item.chunks(); ++n) {
      const int chunk = walked<kReversed>(n, item.chunks()), count = item.count(chunk);
      Rows<T> r, k, rate, decay, scaled;
      Columns<T> v;
      load_decays(rate, decay, in.w + item.at(chunk), item.stride, count, lane);
      load_rows<T>(r, in.r + item.at(chunk), item.stride, count, lane);
      load_rows<T>(k, in.k + item.at(chunk), item.stride, count, lane);
      load_columns<T>(v, in.v + item.at(chunk), item.stride, count, lane);
      Decays<T> products(decay);
      T parts[8][4] = {};
      if constexpr (kReversed) {
        products.reach_ends(lane);
      } else {
        Scores<T> scores = {};
        products.for_each_level(lane, [&](auto level, const Rows<T>& way) {
          Rows<T> near_r, near_k;
          Scores<T> found = {};
          multiply(near_r, r, way);
          multiply(near_k, k, way);
          add_scores<M>(found, near_r, near_k);
          keep_level<level>(scores, found, lane);
        });
        set_diagonal(scores, self_scores(r, k, bonus), lane);
        add_weighted<M>(parts, scores, v);
      }
      multiply(scaled, r, kReversed ? products.after : products.before);
      state.read(parts, scaled);
      multiply(scaled, k, kReversed ? products.before : products.after);
      T turned_keys[2][2][2];
      turned.rows(turned_keys, scaled, lane);
      state.advance(products.whole[0], turned_keys, v);
      T sums[8];
      WarpSums<T>::add_up(sums, parts, exchange, lane);
#pragma unroll
      for (int g = 0; g < 2; ++g) {
        if constexpr (kReversed) {
          store_vector(kept(chunk, g), Vector<T, 4>{sums[4 * g], sums[4 * g + 1], sums[4 * g + 2], sums[4 * g + 3]});
        } else {
          const auto read = load_vector<4>(kept(chunk, g));
#pragma unroll
          for (int x = 0; x < 4; ++x) sums[4 * g + x] += read.values[x];
        }
      }
      if constexpr (!kReversed) store_sums(y + item.at(chunk), sums, item.stride, count, lane);
    }
  };
  walk(std::true_type());
  walk(std::false_type());
}

}  // namespace vrwkv::ops::cuda::wkv6

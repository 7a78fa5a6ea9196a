#pragma once

// Backward kernel of bi_wkv6 with products in bfloat16. The states of keys^T values and of receptances^T output
// gradients that run with time are had first and kept, in bfloat16, for every chunk; then one walk against time has the
// states that run against time, and with both all gradients of each chunk at once.

#include "ops/cuda/bi_wkv6_backward.cuh"
#include "ops/cuda/bi_wkv6_narrow_decays.cuh"
#include "ops/cuda/bi_wkv6_narrow_states.cuh"

namespace vrwkv::ops::cuda::wkv6 {

struct NarrowBackward {
  using In = at::BFloat16;
  const Item& item;
  const Inputs<float, In>& in;
  const Gradients<float, In>& out;
  unsigned char* scratch;
  NarrowBackwardPlaces places;
  Spot spot;
  Stripe stripe;
  Passage passage;
  int stride;
  float bonus[2][2];      ///< Of channels 16 warp + 8 eight + 2 pair + 0..1.
  float stripe_bonus[2];  ///< Of the stripe's.
  float gu[2][2] = {};    ///< As bonus, of tokens row and row + 8.

  /// Byte of a thread's quarter of a state that is kept as it has it, and of a chunk's states in the scratch.
  static __device__ __forceinline__ int quarter(int block) {
    return (block * kThreads + static_cast<int>(threadIdx.x)) * static_cast<int>(sizeof(uint4));
  }
  __device__ __forceinline__ unsigned char* kept(int chunk) const {
    return scratch + static_cast<int64_t>(chunk) * 2 * NarrowBackwardPlaces::kState;
  }

  /// What is read of a chunk.
  struct Read {
    float w[4][2];
    Word r[4], k[4];
    Copied v, gy;
  };
  __device__ __forceinline__ void read(Read& to, int chunk) const {
    const int64_t at = item.at(chunk);
    const int count = item.count(chunk);
    stripe.load(to.w, in.w + at, stride, count);
    stripe.load(to.r, in.r + at, stride, count);
    stripe.load(to.k, in.k + at, stride, count);
    to.v.load(in.v + at, stride, count);
    to.gy.load(out.gy + at, stride, count);
  }
  __device__ __forceinline__ void prefetch(int chunk) const {
    if (chunk >= item.chunks()) return;
    const int64_t at = item.at(chunk);
    prefetch_chunk<4>(in.w + at, {in.r + at, in.k + at, in.v + at, out.gy + at}, stride, item.count(chunk));
  }

  /// The states with time before every chunk, into the scratch; `next` is the first chunk, and then the last. Two
  /// chunks' factors find place at a time.
  __device__ __forceinline__ void keep_states(Read& next, const float* entry, const float* adjoint_entry) const {
    RowState state, adjoint;
    for (int chunk = 1; chunk < kChunksAhead; ++chunk) prefetch(chunk);
    state.load<true>(entry, spot);
    adjoint.load<true>(adjoint_entry, spot);
    const int chunks = item.chunks();
    __syncthreads();  // Nobody reads the last item's factors any more.
    for (int chunk = 0; chunk < chunks; ++chunk) {
#pragma unroll
      for (int block = 0; block < 4; ++block) {
        Word words[4];
        state.narrow(words, block);
        *reinterpret_cast<uint4*>(kept(chunk) + quarter(block)) = {words[0], words[1], words[2], words[3]};
        adjoint.narrow(words, block);
        *reinterpret_cast<uint4*>(kept(chunk) + NarrowBackwardPlaces::kState + quarter(block)) = {words[0], words[1],
                                                                                                  words[2], words[3]};
      }
      if (chunk + 1 == chunks) break;
      prefetch(chunk + kChunksAhead);
      unsigned char* const tiles = places.r_from + chunk % 2 * 4 * kTile;
      unsigned char *const r = tiles, *const k = tiles + kTile, *const v = tiles + 2 * kTile,
                           *const gy = tiles + 3 * kTile;
      float* const wholes = places.wholes + chunk % 2 * kSide;
      const StripeDecays decays(next.w);
      const WaysToEnds ends(decays.decay, stripe);
      next.v.store(v);
      next.gy.store(gy);
      stripe.store(r, next.r, ends.after);
      stripe.store(k, next.k, ends.after);
      ends.store_whole(wholes, stripe);
      __syncthreads();
      read(next, chunk + 1);
      state.scale_rows(wholes, spot);
      state.add(k, v, spot);
      adjoint.scale_rows(wholes, spot);
      adjoint.add(r, gy, spot);
    }
  }

  /// Starts to fetch a chunk's states with time.
  __device__ __forceinline__ void fetch_kept(int chunk) const {
#pragma unroll
    for (int block = 0; block < 4; ++block) {
      start_copy(places.states + quarter(block), kept(chunk) + quarter(block));
      // A warp's 16 keys take the same place here as when they are turned into rows.
      start_copy(places.with_time + spot.lane.warp * kTile + (block * 32 + threadIdx.x % 32) * sizeof(uint4),
                 kept(chunk) + NarrowBackwardPlaces::kState + quarter(block));
    }
  }

  /// Writes the factors of a chunk; `rate` is exp(w) of the stripe.
  __device__ __forceinline__ void prepare(float (&rate)[4][2], const Read& read) const {
    const Word(&r)[4] = read.r;
    const Word(&k)[4] = read.k;
    const StripeDecays decays(read.w);
    read.v.store(places.v);
    read.gy.store(places.gy);
    stripe.store(places.r, r);
    stripe.store(places.k, k);
    {
      const WaysToEnds ends(decays.decay, stripe);
      ends.store_whole(places.wholes, stripe);
      stripe.store(places.r_before, r, ends.before);
      stripe.store(places.k_before, k, ends.before);
      stripe.store(places.k_after, k, ends.after);
      passage.put(0, ends.before, stripe);
      passage.put(1, ends.after, stripe);
    }
    const WaysToMiddle middle(decays.decay, stripe);
    stripe.store(places.r_from, r, middle.from);
    stripe.store(places.r_to, r, middle.to);
    stripe.store(places.k_from, k, middle.from);
    stripe.store(places.k_to, k, middle.to);
    passage.put(2, middle.from, stripe);
    passage.put(3, middle.to, stripe);
    store_self_scores(places.self, r, k, stripe_bonus, stripe);
#pragma unroll
    for (int i = 0; i < 8; ++i) rate[i / 2][i % 2] = decays.rate[i / 2][i % 2];
  }

  /// What tokens have of the states, and of each other, as [channel eight][c].
  struct Gathered {
    float r_with[2][4] = {}, r_against[2][4] = {}, k_with[2][4] = {}, k_against[2][4] = {};
    float scores[2][4] = {};  ///< gy v^T: what a score of two tokens adds to the loss.
  };

  __device__ __forceinline__ void gather(Gathered& found, const RowState& state, const RowState& adjoint) const {
    float across[2] = {};
    Word with_time[4][4];
    await_copies();
#pragma unroll
    for (int block = 0; block < 4; ++block) {
      const uint4 read = *reinterpret_cast<const uint4*>(places.with_time + spot.lane.warp * kTile +
                                                         (block * 32 + threadIdx.x % 32) * sizeof(uint4));
      with_time[block][0] = read.x;
      with_time[block][1] = read.y;
      with_time[block][2] = read.z;
      with_time[block][3] = read.w;
    }
    __syncwarp();
    unsigned char* const with_rows = places.with_time + spot.lane.warp * kTile;
    unsigned char* const against_rows = places.against + spot.lane.warp * kTile;
#pragma unroll
    for (int block = 0; block < 4; ++block) {
      Word gy[4], v[4], narrow[4];
      spot.load(gy, places.gy, block);
      spot.load(v, places.v, block);
      add_product(found.scores[0], gy, v[0], v[2]);
      add_product(found.scores[1], gy, v[1], v[3]);
      const uint4 read = *reinterpret_cast<const uint4*>(places.states + quarter(block));
      const Word kept_state[4]{read.x, read.y, read.z, read.w};
      add_product(found.r_with[0], gy, kept_state[0], kept_state[1]);
      add_product(found.r_with[1], gy, kept_state[2], kept_state[3]);
      add_product(found.k_with[0], v, with_time[block][0], with_time[block][1]);
      add_product(found.k_with[1], v, with_time[block][2], with_time[block][3]);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int tile = 2 * block + i % 2, c = i / 2 * 2;
        across[i / 2] +=
            first_of(kept_state[i]) * adjoint.at[tile][c] + second_of(kept_state[i]) * adjoint.at[tile][c + 1];
        across[i / 2] +=
            first_of(with_time[block][i]) * state.at[tile][c] + second_of(with_time[block][i]) * state.at[tile][c + 1];
      }
      state.narrow(narrow, block);
      add_product(found.r_against[0], gy, narrow[0], narrow[1]);
      add_product(found.r_against[1], gy, narrow[2], narrow[3]);
      adjoint.narrow(narrow, block);
      add_product(found.k_against[0], v, narrow[0], narrow[1]);
      add_product(found.k_against[1], v, narrow[2], narrow[3]);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int byte = (spot.whole ^ (2 * block + i % 2) << 4 ^ i / 2 << 5) + 1024 * (i / 2);
        *reinterpret_cast<Word*>(with_rows + byte) = with_time[block][i];
        *reinterpret_cast<Word*>(against_rows + byte) = narrow[i];
      }
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      across[half] += __shfl_xor_sync(kWholeWarp, across[half], 1);
      across[half] += __shfl_xor_sync(kWholeWarp, across[half], 2);
      const int key = 16 * spot.lane.warp + spot.lane.row + 8 * half;
      if (spot.lane.pair == 0) places.across[key] = across[half] * places.wholes[key];
    }
  }

  /// sums = weights columns: 16 tokens' weights times what the warp's channels of a matrix have.
  __device__ __forceinline__ void weigh(float (&sums)[2][4], const Word (&weights)[4],
                                        const unsigned char* columns) const {
    Word right[4];
    spot.load_turned(right, columns, spot.lane.warp);
    add_product(sums[0], weights, right[0], right[1]);
    add_product(sums[1], weights, right[2], right[3]);
  }

  /// The numbers of a matrix, or array, in the place of a product's result [eight][2 half ..].
  __device__ __forceinline__ Vector<float, 2> of_tile(const unsigned char* tile, int half, int eight) const {
    const Word word = *reinterpret_cast<const Word*>(tile + spot.result(half, eight));
    return {first_of(word), second_of(word)};
  }
  __device__ __forceinline__ Vector<float, 2> way(int array, int half, int eight) const {
    return load_vector<2>(passage.result(array, half, eight, spot.lane));
  }

  /// Gradients of a chunk's receptances, keys and decays.
  __device__ __forceinline__ void finish_rows(const Gathered& found, const float (&rate)[4][2], int chunk) {
    const int count = item.count(chunk);
    const Lane& lane = spot.lane;
    const Word g00 = pack(found.scores[0][0], found.scores[0][1]), g10 = pack(found.scores[0][2], found.scores[0][3]);
    const Word g01 = pack(found.scores[1][0], found.scores[1][1]), g11 = pack(found.scores[1][2], found.scores[1][3]);
    // Of 8 x 8 scores, those whose row is later than their column; and earlier.
    const Word later = (lane.row > 2 * lane.pair ? 0xffffU : 0U) | (lane.row > 2 * lane.pair + 1 ? 0xffff0000U : 0U);
    const Word earlier = (lane.row < 2 * lane.pair ? 0xffffU : 0U) | (lane.row < 2 * lane.pair + 1 ? 0xffff0000U : 0U);
    float self[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float(&scores)[4] = found.scores[half];
      self[half] = __shfl_sync(kWholeWarp, lane.row % 2 == 0 ? scores[2 * half] : scores[2 * half + 1],
                               4 * lane.row + lane.row / 2);
    }
    float r_later[2][4] = {}, r_earlier[2][4] = {}, k_later[2][4] = {}, k_earlier[2][4] = {};
    weigh(r_later, {g00 & later, g10, 0, g11 & later}, places.k_to);
    weigh(r_earlier, {g00 & earlier, 0, g01, g11 & earlier}, places.k_from);
    const Word t00 = transpose(g00), t11 = transpose(g11);
    weigh(k_earlier, {t00 & earlier, 0, transpose(g10), t11 & earlier}, places.r_from);
    weigh(k_later, {t00 & later, transpose(g01), 0, t11 & later}, places.r_to);

    const int64_t first = item.at(chunk) + 16 * lane.warp + 2 * lane.pair;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int half = i / 2, eight = i % 2, token = lane.row + 8 * half;
      const auto before = way(0, half, eight), after = way(1, half, eight);
      const auto from = way(2, half, eight), to = way(3, half, eight);
      const auto r = of_tile(places.r, half, eight), k = of_tile(places.k, half, eight);
      const auto r_from = of_tile(places.r_from, half, eight), r_to = of_tile(places.r_to, half, eight);
      const auto k_from = of_tile(places.k_from, half, eight), k_to = of_tile(places.k_to, half, eight);
      Vector<float, 2> gr, gk, as_later, as_earlier, with_time, against;
#pragma unroll
      for (int x = 0; x < 2; ++x) {
        const int c = 2 * half + x;
        const float r_with = before.values[x] * found.r_with[eight][c],
                    r_against = after.values[x] * found.r_against[eight][c];
        const float k_with = before.values[x] * found.k_with[eight][c],
                    k_against = after.values[x] * found.k_against[eight][c];
        const float own = bonus[eight][x] * self[half];
        gr.values[x] = from.values[x] * r_later[eight][c] + to.values[x] * r_earlier[eight][c] + r_with + r_against +
                       own * k.values[x];
        gk.values[x] = to.values[x] * k_earlier[eight][c] + from.values[x] * k_later[eight][c] + k_with + k_against +
                       own * r.values[x];
        gu[eight][x] += r.values[x] * k.values[x] * self[half];
        as_later.values[x] = r_from.values[x] * r_later[eight][c] + k_from.values[x] * k_later[eight][c];
        as_earlier.values[x] = k_to.values[x] * k_earlier[eight][c] + r_to.values[x] * r_earlier[eight][c];
        with_time.values[x] = r.values[x] * r_with + k.values[x] * k_with;
        against.values[x] = r.values[x] * r_against + k.values[x] * k_against;
      }
      // Only this thread reads the ways at this place.
      store_vector(passage.result(0, half, eight, lane), with_time);
      store_vector(passage.result(1, half, eight, lane), against);
      store_vector(passage.result(2, half, eight, lane), as_later);
      store_vector(passage.result(3, half, eight, lane), as_earlier);
      if (token < count) {
        const int64_t at = first + token * stride + 8 * eight;
        *reinterpret_cast<Word*>(out.gr + at) = pack(gr.values[0], gr.values[1]);
        *reinterpret_cast<Word*>(out.gk + at) = pack(gk.values[0], gk.values[1]);
      }
    }
    __syncwarp();
    store_decay_gradients(out.gw + item.at(chunk), passage, places.across, rate, stripe, stride, count);
  }

  /// Gradients of a chunk's values.
  __device__ __forceinline__ void finish_values(int chunk) const {
    float sums[2][4] = {}, late_sums[2][4] = {};  // Two chains of products take half the time of one.
    Word left[4];
    places.scores.load(left);
    weigh(sums, left, places.gy);
#pragma unroll
    for (int block = 0; block < 4; ++block) {
      spot.load(left, places.k_before, block);
      weigh(sums, left, places.with_time + block * kTile);
      spot.load(left, places.k_after, block);
      weigh(late_sums, left, places.against + block * kTile);
    }
#pragma unroll
    for (int i = 0; i < 8; ++i) sums[i / 4][i % 4] += late_sums[i / 4][i % 4];
    const int count = item.count(chunk);
    In* const to = out.gv + item.at(chunk) + 16 * spot.lane.warp + 2 * spot.lane.pair;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int token = spot.lane.row + 8 * (i / 2);
      const float* const sum = sums[i % 2] + i / 2 * 2;
      if (token < count) *reinterpret_cast<Word*>(to + token * stride + 8 * (i % 2)) = pack(sum[0], sum[1]);
    }
  }

  /// The walk against time; `next` is the last chunk.
  __device__ __forceinline__ void walk(Read& next, const float* entry, const float* adjoint_entry) {
    RowState state, adjoint;
    state.load<true>(entry, spot);
    adjoint.load<true>(adjoint_entry, spot);
    int chunk = item.chunks() - 1;
    __syncthreads();  // Nobody reads the factors of the other walk any more.
    fetch_kept(chunk);
    while (true) {
      float rate[4][2];
      prepare(rate, next);
      await_copies();
      __syncthreads();
      const bool later = spot.lane.warp % 2 == 0;
      places.scores.add(later ? places.k_from : places.k_to, later ? places.r_to : places.r_from, places.self, spot);
      {
        Gathered found;
        gather(found, state, adjoint);
        finish_rows(found, rate, chunk);
      }
      __syncthreads();
      if (chunk > 0) read(next, chunk - 1);
      finish_values(chunk);
      if (--chunk < 0) break;
      state.scale_rows(places.wholes, spot);
      state.add(places.k_before, places.v, spot);
      adjoint.scale_rows(places.wholes, spot);
      adjoint.add(places.r_before, places.gy, spot);
      __syncthreads();
      fetch_kept(chunk);
    }
  }
};

/// What backward_kernel does, on bfloat16 inputs.
__global__ void __launch_bounds__(kThreads, 2)
    narrow_backward_kernel(Shape shape, Inputs<float, at::BFloat16> in, Gradients<float, at::BFloat16> out,
                           const float* states, const float* adjoints, unsigned char* scratch) {
#if __CUDA_ARCH__ >= 800
  extern __shared__ __align__(16) unsigned char raw[];
  const NarrowBackwardPlaces places(raw);
  const Spot spot;
  const Stripe stripe;
  const Passage passage{places.passages + spot.lane.warp * 4 * Passage::kArray};
  for (int64_t index = blockIdx.x; index < shape.items(); index += gridDim.x) {
    const Item item(shape, index);
    const float* const u = in.u + item.head * kSide;
    const int channel = 16 * spot.lane.warp + 2 * spot.lane.pair;
    NarrowBackward backward{item,
                            in,
                            out,
                            scratch + blockIdx.x * narrow_backward_scratch(shape.segment),
                            places,
                            spot,
                            stripe,
                            passage,
                            static_cast<int>(item.stride),
                            {{u[channel], u[channel + 1]}, {u[channel + 8], u[channel + 9]}},
                            {u[stripe.channel], u[stripe.channel + 1]}};
    const auto entry = [&](const float* all, int direction) {
      return all == nullptr ? nullptr : all + (index * 2 + direction) * kStateSize;
    };
    NarrowBackward::Read next;
    backward.read(next, 0);
    backward.keep_states(next, entry(states, 0), entry(adjoints, 0));
    backward.walk(next, entry(states, 1), entry(adjoints, 1));
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      float sum = backward.gu[i / 2][i % 2];
      for (int row = 1; row < 8; row *= 2) sum += __shfl_xor_sync(kWholeWarp, sum, 4 * row);
      if (spot.lane.row == 0) out.gu[index * kSide + channel + i / 2 * 8 + i % 2] = sum;
    }
  }
#endif
}

}  // namespace vrwkv::ops::cuda::wkv6

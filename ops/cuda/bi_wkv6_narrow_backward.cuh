#pragma once

// Backward kernel of bi_wkv6 with products in bfloat16. The states of keys^T values and of receptances^T output
// gradients that run with time are had first and kept, in bfloat16, for every chunk; then one walk against time has the
// states that run against time, and with both all gradients of each chunk at once.
//
// The gradient of a decay's logarithm is the sum of score * score's gradient over the pairs of tokens it lies between.
// For pairs that meet through a state, that is a sum over the tokens on one of its sides. For pairs of one chunk it is
// the sum over later tokens of what they have from earlier ones, less what it and later tokens have from later ones:
// the same products of the same bfloat16 numbers on both sides, so that only float32's roundings remain.

#include "ops/cuda/bi_wkv6_backward.cuh"
#include "ops/cuda/bi_wkv6_narrow_places.cuh"
#include "ops/cuda/bi_wkv6_narrow_states.cuh"

namespace vrwkv::ops::cuda::wkv6 {

struct NarrowBackward {
  using In = at::BFloat16;
  const Item& item;
  const Inputs<float, In>& in;
  const Gradients<float, In>& out;
  unsigned char* scratch;
  NarrowBackwardPlaces places;
  int team;
  Spot spot;
  Stripe stripe;
  Passage passage;
  int stride;
  float bonus[2][2];      ///< Of channels 16 warp + 8 eight + 2 pair + 0..1.
  float stripe_bonus[2];  ///< Of the stripe's.
  float gu[2][2] = {};    ///< As bonus, of tokens row and row + 8.

  static __device__ __forceinline__ void barrier() { block_barrier<kTeams * kThreads>(); }

  __device__ __forceinline__ unsigned char* own(Factor factor) const { return places.tile(team, factor); }
  __device__ __forceinline__ unsigned char* others(Factor factor) const { return places.tile(1 - team, factor); }

  /// Byte of a thread's quarter of a state that is kept as it has it; a chunk's state of the team in the scratch.
  static __device__ __forceinline__ int quarter(int block) {
    return (block * kThreads + static_cast<int>(threadIdx.x) % kThreads) * static_cast<int>(sizeof(uint4));
  }
  __device__ __forceinline__ unsigned char* kept(int chunk) const {
    return scratch + (static_cast<int64_t>(chunk) * kTeams + team) * NarrowBackwardPlaces::kState;
  }

  /// What a team reads of a chunk.
  struct Read {
    float w[4][2];
    Word channels[4];
    Copied columns;
  };
  __device__ __forceinline__ void read(Read& to, int chunk) const {
    const int64_t at = item.at(chunk);
    const int count = item.count(chunk);
    stripe.load(to.w, in.w + at, stride, count);
    stripe.load(to.channels, (team == 0 ? in.r : in.k) + at, stride, count);
    to.columns.load((team == 0 ? out.gy : in.v) + at, stride, count);
  }

  /// The team's states with time before every chunk, into the scratch. Two chunks' factors find place at a time.
  __device__ void keep_states(const float* entry) const {
    RowState state;
    state.load<true>(entry, spot);
    const int chunks = item.chunks();
    Read next;
    read(next, 0);
    barrier();  // Nobody reads the last item's factors any more.
    for (int chunk = 0; chunk < chunks; ++chunk) {
#pragma unroll
      for (int block = 0; block < 4; ++block) {
        Word words[4];
        state.narrow(words, block);
        *reinterpret_cast<uint4*>(kept(chunk) + quarter(block)) = {words[0], words[1], words[2], words[3]};
      }
      if (chunk + 1 == chunks) break;
      const bool odd = chunk % 2 == 1;
      const Factor after = odd ? Factor::kFrom : Factor::kAfter, columns = odd ? Factor::kTo : Factor::kColumns;
      const StripeDecays decays(next.w);
      const WaysToEnds ends(decays.decay, stripe);
      next.columns.store(own(columns));
      stripe.store(own(after), next.channels, ends.after);
      if (team == 0) ends.store_whole(places.wholes(odd), stripe);
      barrier();
      if (chunk + 2 < chunks) read(next, chunk + 1);
      state.scale_rows(places.wholes(odd), spot);
      state.add(others(after), others(columns), spot);
    }
  }

  /// Starts to fetch a chunk's state with time.
  __device__ __forceinline__ void fetch_kept(int chunk) const {
#pragma unroll
    for (int block = 0; block < 4; ++block) {
      start_copy(places.kept(team) + quarter(block), kept(chunk) + quarter(block));
    }
  }

  /// Loads a chunk and writes the team's factors of it.
  __device__ __forceinline__ void prepare(int chunk) const {
    Read read_now;
    read(read_now, chunk);
    Word keys[4] = {};
    if (team == 0) stripe.load(keys, in.k + item.at(chunk), stride, item.count(chunk));
    const StripeDecays decays(read_now.w);
    const WaysToEnds ends(decays.decay, stripe);
    const WaysToMiddle middle(decays.decay, stripe);
    barrier();  // Nobody reads the last chunk's factors any more.
    read_now.columns.store(own(Factor::kColumns));
    stripe.store(own(Factor::kPlain), read_now.channels);
    stripe.store(own(Factor::kBefore), read_now.channels, ends.before);
    stripe.store(own(Factor::kFrom), read_now.channels, middle.from);
    stripe.store(own(Factor::kTo), read_now.channels, middle.to);
    if (team == 0) {
      ends.store_whole(places.wholes(), stripe);
      store_self_scores(places.self(), read_now.channels, keys, stripe_bonus, stripe);
    } else {
      stripe.store(own(Factor::kAfter), read_now.channels, ends.after);
    }
    passage.put(0, ends.before, stripe);
    passage.put(1, ends.after, stripe);
    passage.put(2, middle.from, stripe);
    passage.put(3, middle.to, stripe);
  }

  /// What the team's tokens have from its states, as [channel eight][c], and what their scores, of the team's token in
  /// rows and the other's in columns, add to the loss: gy v^T or its transpose.
  struct Gathered {
    float with_time[2][4] = {}, against[2][4] = {}, scores[2][4] = {};
  };

  __device__ __forceinline__ void gather(Gathered& found, const RowState& state) const {
    float across[2] = {};
#pragma unroll
    for (int block = 0; block < 4; ++block) {
      Word tokens[4], other_tokens[4], narrow[4];
      spot.load(tokens, own(Factor::kColumns), block);
      spot.load(other_tokens, others(Factor::kColumns), block);
      add_product(found.scores[0], tokens, other_tokens[0], other_tokens[2]);
      add_product(found.scores[1], tokens, other_tokens[1], other_tokens[3]);
      state.narrow(narrow, block);
      add_product(found.against[0], tokens, narrow[0], narrow[1]);
      add_product(found.against[1], tokens, narrow[2], narrow[3]);
      const uint4 own_read = *reinterpret_cast<const uint4*>(places.kept(team) + quarter(block));
      const Word kept[4]{own_read.x, own_read.y, own_read.z, own_read.w};
      add_product(found.with_time[0], tokens, kept[0], kept[1]);
      add_product(found.with_time[1], tokens, kept[2], kept[3]);
      const uint4 other_read = *reinterpret_cast<const uint4*>(places.kept(1 - team) + quarter(block));
      const Word other[4]{other_read.x, other_read.y, other_read.z, other_read.w};
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float* const at = state.at[2 * block + i % 2] + i / 2 * 2;
        across[i / 2] += first_of(other[i]) * at[0] + second_of(other[i]) * at[1];
      }
      if (team == 0) continue;
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int byte = spot.lane.warp * kTile + (spot.whole ^ (2 * block + i % 2) << 4 ^ i / 2 << 5) + 1024 * (i / 2);
        *reinterpret_cast<Word*>(places.rows(false) + byte) = kept[i];
        *reinterpret_cast<Word*>(places.rows(true) + byte) = narrow[i];
      }
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      across[half] += __shfl_xor_sync(kWholeWarp, across[half], 1);
      across[half] += __shfl_xor_sync(kWholeWarp, across[half], 2);
      const int key = 16 * spot.lane.warp + spot.lane.row + 8 * half;
      if (spot.lane.pair == 0) places.across(team)[key] = across[half] * places.wholes()[key];
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

  /// Gradients of the team's receptances or keys of a chunk, into `to`; and in the passage what decays' gradients sum
  /// up: the parts by states with time and against it, and those of pairs of the chunk in which the token is the later
  /// one, and the earlier one.
  __device__ __forceinline__ void finish_rows(const Gathered& found, In* to, int count) {
    const Lane& lane = spot.lane;
    const Word s00 = pack(found.scores[0][0], found.scores[0][1]), s10 = pack(found.scores[0][2], found.scores[0][3]);
    const Word s01 = pack(found.scores[1][0], found.scores[1][1]), s11 = pack(found.scores[1][2], found.scores[1][3]);
    // Of 8 x 8 scores, those whose row is later than their column; and earlier.
    const Word later = (lane.row > 2 * lane.pair ? 0xffffU : 0U) | (lane.row > 2 * lane.pair + 1 ? 0xffff0000U : 0U);
    const Word earlier = (lane.row < 2 * lane.pair ? 0xffffU : 0U) | (lane.row < 2 * lane.pair + 1 ? 0xffff0000U : 0U);
    float as_later[2][4] = {}, as_earlier[2][4] = {};
    weigh(as_later, {s00 & later, s10, 0, s11 & later}, others(Factor::kTo));
    weigh(as_earlier, {s00 & earlier, 0, s01, s11 & earlier}, others(Factor::kFrom));
    to += 16 * lane.warp + 2 * lane.pair;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int token = lane.row + 8 * half;
      const float self =
          __shfl_sync(kWholeWarp, lane.row % 2 == 0 ? found.scores[half][2 * half] : found.scores[half][2 * half + 1],
                      4 * lane.row + lane.row / 2);
#pragma unroll
      for (int eight = 0; eight < 2; ++eight) {
        const auto before = way(0, half, eight), after = way(1, half, eight);
        const auto from = way(2, half, eight), into = way(3, half, eight);
        const auto plain = of_tile(own(Factor::kPlain), half, eight);
        const auto other = of_tile(others(Factor::kPlain), half, eight);
        const auto scaled_from = of_tile(own(Factor::kFrom), half, eight);
        const auto scaled_to = of_tile(own(Factor::kTo), half, eight);
        Vector<float, 2> gradient, parts[4];
#pragma unroll
        for (int x = 0; x < 2; ++x) {
          const int c = 2 * half + x;
          const float with_time = before.values[x] * found.with_time[eight][c];
          const float against = after.values[x] * found.against[eight][c];
          gradient.values[x] = from.values[x] * as_later[eight][c] + into.values[x] * as_earlier[eight][c] + with_time +
                               against + bonus[eight][x] * self * other.values[x];
          gu[eight][x] += plain.values[x] * other.values[x] * self;
          parts[0].values[x] = plain.values[x] * with_time;
          parts[1].values[x] = plain.values[x] * against;
          parts[2].values[x] = scaled_from.values[x] * as_later[eight][c];
          parts[3].values[x] = scaled_to.values[x] * as_earlier[eight][c];
        }
        // Only this thread reads the ways at this place.
#pragma unroll
        for (int part = 0; part < 4; ++part) store_vector(passage.result(part, half, eight, lane), parts[part]);
        if (token < count) {
          *reinterpret_cast<Word*>(to + token * stride + 8 * eight) = pack(gradient.values[0], gradient.values[1]);
        }
      }
    }
  }

  /// Both teams' parts of one kind.
  __device__ __forceinline__ void both(float (&sums)[4][2], int part) const {
    float other[4][2];
    passage.get(sums, part, stripe);
    places.passage(1 - team, spot.lane.warp).get(other, part, stripe);
#pragma unroll
    for (int i = 0; i < 8; ++i) sums[i / 2][i % 2] += other[i / 2][i % 2];
  }

  /// Gradients of a chunk's w. d log(decay) / dw = -exp(w); where that leaves the range, the decay is 0 and takes no
  /// gradient. A decay below kLeastDecay, for which that stands in between tokens of one chunk, takes its own share.
  __device__ __forceinline__ void finish_decays(const float* w, float* to, int count) const {
    float w_read[4][2];
    stripe.load(w_read, w, stride, count);
    float parts[4][2], sums[4][2], near[4][2], other[4][2];
    both(parts, 0);
    sum_after(sums, parts, stripe);
    both(parts, 1);
    sum_before(other, parts, stripe);
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      const float across = places.across(0)[stripe.channel + c] + places.across(1)[stripe.channel + c];
#pragma unroll
      for (int i = 0; i < 4; ++i) sums[i][c] += other[i][c] + across;
    }
    both(parts, 2);
    both(other, 3);
#pragma unroll
    for (int i = 0; i < 8; ++i) parts[i / 2][i % 2] -= other[i / 2][i % 2];
    sum_after(near, parts, stripe);
    const StripeDecays decays(w_read);
    to += 4 * stripe.group * stride + stripe.channel;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      Vector<float, 2> gw;
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        const float share = fminf(decays.decay[i][c] * (1.0F / kLeastDecay), 1.0F);
        const float sum = sums[i][c] + (near[i][c] - other[i][c]) * share;
        gw.values[c] = isinf(decays.rate[i][c]) ? 0.0F : -decays.rate[i][c] * sum;
      }
      if (4 * stripe.group + i < count) store_vector(to + i * stride, gw);
    }
  }

  /// Gradients of a chunk's values.
  __device__ __forceinline__ void finish_values(In* to, int count) const {
    float sums[2][4] = {};
    Word left[4];
    places.scores().load(left);
    weigh(sums, left, others(Factor::kColumns));
#pragma unroll
    for (int block = 0; block < 4; ++block) {
      spot.load(left, own(Factor::kBefore), block);
      weigh(sums, left, places.rows(false) + block * kTile);
      spot.load(left, own(Factor::kAfter), block);
      weigh(sums, left, places.rows(true) + block * kTile);
    }
    to += 16 * spot.lane.warp + 2 * spot.lane.pair;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int token = spot.lane.row + 8 * (i / 2);
      const float* const sum = sums[i % 2] + i / 2 * 2;
      if (token < count) *reinterpret_cast<Word*>(to + token * stride + 8 * (i % 2)) = pack(sum[0], sum[1]);
    }
  }

  /// Places are cheaper to compute again from these than to keep in registers, all of them, for the whole walk.
  __device__ __forceinline__ void forget_places() {
    forget(spot.matrix);
    forget(spot.own);
    forget(spot.whole);
    forget(spot.lane.row);
    forget(spot.lane.pair);
    forget(stripe.place);
    forget(stripe.group);
    forget(stripe.channel);
  }

  /// The walk against time.
  __device__ void walk(const float* entry) {
    RowState state;
    state.load<true>(entry, spot);
    int chunk = item.chunks() - 1;
    fetch_kept(chunk);
    while (true) {
      const int count = item.count(chunk);
      const int64_t at = item.at(chunk);
      forget_places();
      prepare(chunk);
      await_copies();
      barrier();
      forget_places();
      if (team == 0) {
        const bool later = spot.lane.warp % 2 == 0;
        places.scores().add(others(later ? Factor::kFrom : Factor::kTo), own(later ? Factor::kTo : Factor::kFrom),
                            places.self(), spot);
      }
      {
        Gathered found;
        gather(found, state);
        forget_places();
        finish_rows(found, (team == 0 ? out.gr : out.gk) + at, count);
      }
      barrier();
      forget_places();
      if (--chunk >= 0) fetch_kept(chunk);
      if (team == 0) {
        finish_decays(in.w + at, out.gw + at, count);
      } else {
        finish_values(out.gv + at, count);
      }
      if (chunk < 0) break;
      state.scale_rows(places.wholes(), spot);
      state.add(others(Factor::kBefore), others(Factor::kColumns), spot);
    }
  }
};

/// What backward_kernel does, on bfloat16 inputs.
__global__ void __launch_bounds__(kTeams* kThreads, 2)
    narrow_backward_kernel(Shape shape, Inputs<float, at::BFloat16> in, Gradients<float, at::BFloat16> out,
                           const float* states, const float* adjoints, unsigned char* scratch) {
#if __CUDA_ARCH__ >= 800
  extern __shared__ __align__(16) unsigned char raw[];
  const NarrowBackwardPlaces places{raw};
  const Spot spot;
  const Stripe stripe;
  const int team = static_cast<int>(threadIdx.x) / kThreads;
  const float* const entries = team == 0 ? states : adjoints;
  for (int64_t index = blockIdx.x; index < shape.items(); index += gridDim.x) {
    const Item item(shape, index);
    const float* const u = in.u + item.head * kSide;
    const int channel = 16 * spot.lane.warp + 2 * spot.lane.pair;
    NarrowBackward backward{item,
                            in,
                            out,
                            scratch + blockIdx.x * narrow_backward_scratch(shape.segment),
                            places,
                            team,
                            spot,
                            stripe,
                            places.passage(team, spot.lane.warp),
                            static_cast<int>(item.stride),
                            {{u[channel], u[channel + 1]}, {u[channel + 8], u[channel + 9]}},
                            {u[stripe.channel], u[stripe.channel + 1]}};
    const auto entry = [&](int direction) {
      return entries == nullptr ? nullptr : entries + (index * 2 + direction) * kStateSize;
    };
    backward.keep_states(entry(0));
    backward.walk(entry(1));
    if (team != 0) continue;
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

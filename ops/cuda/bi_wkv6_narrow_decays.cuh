#pragma once

// Gradients of w in bi_wkv6's backward kernel for bfloat16. That of a decay's logarithm is the sum of score * score's
// gradient over the pairs of tokens it lies between. For pairs that meet through a state, this is a sum over the tokens
// on one of its sides. For pairs of one chunk it is the sum over later tokens of what they have from earlier ones, less
// what it and later tokens have from later ones: the same products of the same bfloat16 numbers on both sides, so that
// only float32's roundings remain.

#include "ops/cuda/bi_wkv6_narrow_places.cuh"

namespace vrwkv::ops::cuda::wkv6 {

/// Sums of a quantity over the tokens after each of a stripe within the chunk; and before each.
__device__ __forceinline__ void sum_after(float (&sums)[4][2], const float (&of)[4][2], const Stripe& stripe) {
#pragma unroll
  for (int c = 0; c < 2; ++c) {
    const float last = of[2][c] + of[3][c], all = of[0][c] + of[1][c] + last;
    const float beside = __shfl_xor_sync(kWholeWarp, all, 8);
    const float across = __shfl_xor_sync(kWholeWarp, all + beside, 16);
    const float end = ((stripe.group & 1) != 0 ? 0.0F : beside) + ((stripe.group & 2) != 0 ? 0.0F : across);
    sums[3][c] = end;
    sums[2][c] = end + of[3][c];
    sums[1][c] = end + last;
    sums[0][c] = sums[1][c] + of[1][c];
  }
}
__device__ __forceinline__ void sum_before(float (&sums)[4][2], const float (&of)[4][2], const Stripe& stripe) {
#pragma unroll
  for (int c = 0; c < 2; ++c) {
    const float first = of[0][c] + of[1][c], all = first + of[2][c] + of[3][c];
    const float beside = __shfl_xor_sync(kWholeWarp, all, 8);
    const float across = __shfl_xor_sync(kWholeWarp, all + beside, 16);
    const float start = ((stripe.group & 1) != 0 ? beside : 0.0F) + ((stripe.group & 2) != 0 ? across : 0.0F);
    sums[0][c] = start;
    sums[1][c] = start + of[0][c];
    sums[2][c] = start + first;
    sums[3][c] = sums[2][c] + of[2][c];
  }
}

/// Writes a chunk's gradients of w, of 16 channels a warp. The passage has what tokens have by states with time and
/// against it, and by pairs of the chunk in which they are the later one, and the earlier one; `across` [64] is what
/// passes over the whole chunk. d log(decay) / dw = -rate = -exp(w); where that leaves the range, the decay is 0 and
/// takes no gradient. A decay below kLeastDecay, for which that stands in between tokens of one chunk, takes its own
/// share.
__device__ __forceinline__ void store_decay_gradients(float* to, const Passage& passage, const float* across,
                                                      const float (&rate)[4][2], const Stripe& stripe, int stride,
                                                      int count) {
  float sums[4][2], near[4][2], read[4][2], other[4][2];
  passage.get(read, 0, stripe);
  sum_after(sums, read, stripe);
  passage.get(read, 1, stripe);
  sum_before(other, read, stripe);
#pragma unroll
  for (int i = 0; i < 8; ++i) sums[i / 2][i % 2] += other[i / 2][i % 2] + across[stripe.channel + i % 2];
  passage.get(read, 2, stripe);
  passage.get(other, 3, stripe);
#pragma unroll
  for (int i = 0; i < 8; ++i) read[i / 2][i % 2] -= other[i / 2][i % 2];
  sum_after(near, read, stripe);
  to += 4 * stripe.group * stride + stripe.channel;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    Vector<float, 2> gw;
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      const float share = fminf(decay_of(rate[i][c]) * (1.0F / kLeastDecay), 1.0F);
      const float sum = sums[i][c] + (near[i][c] - other[i][c]) * share;
      gw.values[c] = isinf(rate[i][c]) ? 0.0F : -rate[i][c] * sum;
    }
    if (4 * stripe.group + i < count) store_vector(to + i * stride, gw);
  }
}

}  // namespace vrwkv::ops::cuda::wkv6

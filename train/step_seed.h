#pragma once

#include <cstdint>

namespace vrwkv::train {

/// Seed of LibTorch's generators for one step of one process: a well-mixed function of (seed, step, rank), so that
/// neither the number of draws in earlier steps nor an interruption changes what a step draws. (The finaliser of
/// SplitMix64, Steele et al. 2014.)
constexpr uint64_t step_seed(uint64_t seed, uint64_t step, uint64_t rank = 0) {
  uint64_t z = seed * 0x9E3779B97F4A7C15ULL + step + rank * 0xD1B54A32D192ED03ULL + 0x632BE59BD9B4E019ULL;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
  return z ^ (z >> 31);
}

}  // namespace vrwkv::train

#pragma once

#include <cmath>
#include <cstdint>
#include <numbers>
#include <numeric>
#include <utility>
#include <vector>

namespace vrwkv::data {

/// What random numbers are drawn for: each use has its own sequence, so that adding draws to one never moves another.
enum class RandomStream : std::uint64_t {
  order = 0,
  transform = 1,
  replacement = 2,
  augment = 3,
  erasing = 4,
  noise = 5,
  mix = 6,
  masking = 7,
  decoder = 8,
  synthetic_class = 16,
  synthetic_image = 17
};

/// An explicit random generator (SplitMix64) whose sequence is a function of (seed, epoch, index, stream) alone. Draws
/// are the same on every platform; the standard library's distributions would not be.
class Generator {
 public:
  Generator(std::uint64_t seed, std::uint64_t epoch, std::uint64_t index, RandomStream stream)
      : state_(absorb(absorb(absorb(absorb(0, seed), epoch), index), static_cast<std::uint64_t>(stream))) {}

  /// A generator for another use at the same place: a function of this one's state, which does not move.
  Generator branch(RandomStream stream) const { return Generator(absorb(state_, static_cast<std::uint64_t>(stream))); }

  /// 64 random bits.
  std::uint64_t bits() { return mix(state_ += kStep); }

  /// Uniform in [0, 1), with 53 random bits.
  double uniform() { return static_cast<double>(bits() >> 11) * 0x1p-53; }

  /// Uniform in [low, high).
  double uniform(double low, double high) { return low + (high - low) * uniform(); }

  /// Uniform among 0 … count - 1, without bias; count must be positive.
  std::int64_t integer(std::int64_t count) {
    const auto range = static_cast<std::uint64_t>(count);
    const std::uint64_t unfair = (0 - range) % range;  // 2^64 mod range: so many values would be drawn too often
    std::uint64_t value = bits();
    while (value < unfair) {
      value = bits();
    }
    return static_cast<std::int64_t>(value % range);
  }

  /// Normal with mean 0 and standard deviation 1 (Box-Muller; the last digit may depend on the mathematics library).
  double normal() {
    const double radius = std::sqrt(-2.0 * std::log(1.0 - uniform()));
    return radius * std::cos(2.0 * std::numbers::pi * uniform());
  }

 private:
  explicit Generator(std::uint64_t state) : state_(state) {}

  static constexpr std::uint64_t kStep = 0x9E3779B97F4A7C15ULL;

  static constexpr std::uint64_t mix(std::uint64_t z) {
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
    return z ^ (z >> 31);
  }

  static constexpr std::uint64_t absorb(std::uint64_t state, std::uint64_t value) {
    return mix((state ^ value) + kStep);
  }

  std::uint64_t state_;
};

/// 0 ... size - 1 in an order drawn uniformly (Fisher-Yates: std::shuffle differs between libraries).
inline std::vector<std::int64_t> permutation(std::int64_t size, Generator& generator) {
  std::vector<std::int64_t> order(static_cast<std::size_t>(size));
  std::iota(order.begin(), order.end(), 0);
  for (std::int64_t left = size; left > 1; --left) {
    std::swap(order[static_cast<std::size_t>(left - 1)], order[static_cast<std::size_t>(generator.integer(left))]);
  }
  return order;
}

}  // namespace vrwkv::data

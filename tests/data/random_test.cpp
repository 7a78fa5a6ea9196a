#include "data/random.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <set>
#include <vector>

namespace vrwkv::data {
namespace {

constexpr int kDraws = 200'000;

TEST(Generator, KeepsItsSequence) {
  // Pinned: a change here would change the batches of every resumed run.
  Generator generator(1, 2, 3, RandomStream::transform);
  const std::array<std::uint64_t, 3> expected{0xC51FEB729DB69D8FULL, 0xDDD15123CF1272B5ULL, 0x6C17DFD27F160CFCULL};
  for (const std::uint64_t value : expected) {
    EXPECT_EQ(generator.bits(), value);
  }
}

TEST(Generator, EveryPartOfTheSeedCounts) {
  std::set<std::uint64_t> first;
  for (std::uint64_t seed = 0; seed < 6; ++seed) {
    for (std::uint64_t epoch = 0; epoch < 6; ++epoch) {
      for (std::uint64_t index = 0; index < 6; ++index) {
        for (const auto stream : {RandomStream::order, RandomStream::transform, RandomStream::replacement}) {
          first.insert(Generator(seed, epoch, index, stream).bits());
        }
      }
    }
  }
  EXPECT_EQ(first.size(), 6U * 6U * 6U * 3U);
}

TEST(Generator, FirstDrawsOfNeighboursAreUnrelated) {
  // Loader threads use the first draws of consecutive indices: their mean and serial correlation are those of noise.
  double sum = 0;
  double product = 0;
  double last = 0.5;
  for (int i = 0; i < kDraws; ++i) {
    const double value = Generator(0, 0, static_cast<std::uint64_t>(i), RandomStream::transform).uniform();
    sum += value;
    product += (value - 0.5) * (last - 0.5);
    last = value;
  }
  EXPECT_NEAR(sum / kDraws, 0.5, 5 * 0.2887 / std::sqrt(kDraws));
  EXPECT_NEAR(product / kDraws, 0.0, 5 / 12.0 / std::sqrt(kDraws));
}

TEST(Generator, UniformFillsItsRange) {
  Generator generator(7, 0, 0, RandomStream::transform);
  std::array<int, 20> counts{};
  for (int i = 0; i < kDraws; ++i) {
    const double value = generator.uniform(-3.0, 5.0);
    ASSERT_GE(value, -3.0);
    ASSERT_LT(value, 5.0);
    ++counts.at(static_cast<std::size_t>((value + 3.0) / 8.0 * 20));
  }
  for (const int count : counts) {
    EXPECT_NEAR(count, kDraws / 20.0, 5 * std::sqrt(kDraws / 20.0));
  }
}

TEST(Generator, IntegersAreEquallyLikely) {
  for (const int64_t range : {1, 2, 3, 7, 100}) {
    Generator generator(8, 0, static_cast<std::uint64_t>(range), RandomStream::transform);
    std::vector<int> counts(static_cast<std::size_t>(range));
    for (int i = 0; i < kDraws; ++i) {
      ++counts.at(static_cast<std::size_t>(generator.integer(range)));
    }
    const double expected = static_cast<double>(kDraws) / static_cast<double>(range);
    for (const int count : counts) {
      EXPECT_NEAR(count, expected, 5 * std::sqrt(expected));
    }
  }
  Generator generator(9, 0, 0, RandomStream::transform);
  int64_t high = 0;
  const int64_t huge = (int64_t{1} << 62) + (int64_t{1} << 61);  // a plain remainder would favour the lower two thirds
  for (int i = 0; i < kDraws; ++i) {
    high += generator.integer(huge) >= (int64_t{1} << 62) ? 1 : 0;
  }
  EXPECT_NEAR(static_cast<double>(high) / kDraws, 1.0 / 3.0, 5 * 0.4714 / std::sqrt(kDraws));
}

TEST(Generator, NormalHasItsMoments) {
  Generator generator(10, 0, 0, RandomStream::transform);
  double sum = 0;
  double squares = 0;
  double fourth = 0;
  for (int i = 0; i < kDraws; ++i) {
    const double value = generator.normal();
    sum += value;
    squares += value * value;
    fourth += value * value * value * value;
  }
  EXPECT_NEAR(sum / kDraws, 0.0, 5 / std::sqrt(kDraws));
  EXPECT_NEAR(squares / kDraws, 1.0, 5 * std::sqrt(2.0 / kDraws));
  EXPECT_NEAR(fourth / kDraws, 3.0, 5 * std::sqrt(96.0 / kDraws));
}

}  // namespace
}  // namespace vrwkv::data

#include "data/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <set>

#include "common/errors.h"

namespace vrwkv::data {
namespace {

std::vector<int64_t> sorted(std::vector<int64_t> values) {
  std::ranges::sort(values);
  return values;
}

std::vector<int64_t> range(int64_t size) {
  std::vector<int64_t> values(static_cast<std::size_t>(size));
  std::iota(values.begin(), values.end(), 0);
  return values;
}

TEST(EpochPermutation, IsAPermutationOfSeedAndEpoch) {
  for (const int64_t size : {0, 1, 2, 3, 1000}) {
    EXPECT_EQ(sorted(epoch_permutation(size, 1, 2)), range(size));
  }
  EXPECT_EQ(epoch_permutation(1000, 1, 2), epoch_permutation(1000, 1, 2));
  EXPECT_NE(epoch_permutation(1000, 1, 2), epoch_permutation(1000, 1, 3));
  EXPECT_NE(epoch_permutation(1000, 1, 2), epoch_permutation(1000, 2, 2));
  EXPECT_NE(epoch_permutation(1000, 1, 2), range(1000));
}

TEST(EpochPermutation, EveryOrderIsEquallyLikely) {
  std::vector<int> counts(64);
  for (int64_t epoch = 0; epoch < 24'000; ++epoch) {
    const auto order = epoch_permutation(4, 0, epoch);
    ++counts[static_cast<std::size_t>(order[0] * 16 + order[1] * 4 + order[2])];
  }
  int orders = 0;
  for (const int count : counts) {
    if (count > 0) {
      EXPECT_NEAR(count, 1000, 160);
      ++orders;
    }
  }
  EXPECT_EQ(orders, 24);
}

TEST(Sampler, TrainingRanksShareWholeBatches) {
  for (const int64_t size : {24, 25, 47, 1003}) {
    for (const int64_t world : {1, 2, 3, 5}) {
      std::set<int64_t> seen;
      std::set<int64_t> batches;
      int64_t count = 0;
      for (int64_t rank = 0; rank < world; ++rank) {
        const Sampler sampler(
            size, {.seed = 3, .shuffle = true, .batch_size = 4, .drop_last = true, .rank = rank, .world_size = world});
        const auto share = sampler.epoch(7);
        EXPECT_EQ(std::ssize(share), sampler.samples_per_epoch());
        EXPECT_EQ(std::ssize(share), sampler.batches_per_epoch() * 4);
        seen.insert(share.begin(), share.end());
        batches.insert(sampler.batches_per_epoch());
        count += std::ssize(share);
        const auto order = epoch_permutation(size, 3, 7);
        EXPECT_EQ(share[1], order[static_cast<std::size_t>(rank + world)]);
      }
      EXPECT_EQ(batches.size(), 1U);
      EXPECT_EQ(std::ssize(seen), count);  // nothing twice
      EXPECT_GT(count, size - 4 * world);  // less than one batch of each rank is dropped
    }
  }
}

TEST(Sampler, EvaluationSeesEverySampleOnce) {
  for (const int64_t size : {1, 2, 7, 100}) {
    for (const int64_t world : {1, 2, 3, 8}) {
      for (const bool shuffle : {false, true}) {
        std::vector<int64_t> all;
        for (int64_t rank = 0; rank < world; ++rank) {
          const Sampler sampler(size, {.shuffle = shuffle, .batch_size = 3, .rank = rank, .world_size = world});
          const auto share = sampler.epoch(0);
          EXPECT_EQ(sampler.batches_per_epoch(), (std::ssize(share) + 2) / 3);
          all.insert(all.end(), share.begin(), share.end());
        }
        EXPECT_EQ(sorted(all), range(size));
      }
    }
  }
}

TEST(Sampler, KeepsTheOrderWithoutShuffle) {
  EXPECT_EQ(Sampler(6, {.batch_size = 4}).epoch(3), range(6));
  EXPECT_EQ(Sampler(6, {.batch_size = 4, .drop_last = true}).epoch(3), range(4));
}

// Repeated augmentation: view v of sample i is number v * size + i.
TEST(Sampler, RepeatsSamplesInAnEpochOfTheSameLength) {
  constexpr int64_t kSize = 101;
  for (const int64_t repeats : {2, 3, 64}) {
    for (const int64_t world : {1, 3}) {
      std::vector<int64_t> order(static_cast<std::size_t>(kSize / world * world));
      for (int64_t rank = 0; rank < world; ++rank) {
        const Sampler sampler(kSize, {.seed = 3,
                                      .shuffle = true,
                                      .batch_size = 1,
                                      .drop_last = true,
                                      .rank = rank,
                                      .world_size = world,
                                      .repeats = repeats});
        EXPECT_EQ(sampler.samples_per_epoch(), kSize / world);
        const auto share = sampler.epoch(4);
        ASSERT_EQ(std::ssize(share), kSize / world);
        for (std::size_t i = 0; i < share.size(); ++i) {
          order[i * static_cast<std::size_t>(world) + static_cast<std::size_t>(rank)] = share[i];
        }
      }
      const auto samples = epoch_permutation(kSize, 3, 4);
      for (std::size_t i = 0; i < order.size(); ++i) {
        const auto position = static_cast<int64_t>(i);
        EXPECT_EQ(order[i] % kSize, samples[static_cast<std::size_t>(position / repeats)]);
        EXPECT_EQ(order[i] / kSize, position % repeats);
      }
    }
  }
  EXPECT_THROW(Sampler(8, {.repeats = 0}), std::invalid_argument);
}

TEST(Sampler, RefusesWhatLeavesNoBatch) {
  EXPECT_THROW(Sampler(15, {.batch_size = 8, .drop_last = true, .world_size = 2}), UsageError);
  EXPECT_NO_THROW(Sampler(16, {.batch_size = 8, .drop_last = true, .world_size = 2}));
  EXPECT_THROW(Sampler(16, {.batch_size = 0}), std::invalid_argument);
  EXPECT_THROW(Sampler(16, {.batch_size = 1, .rank = 2, .world_size = 2}), std::invalid_argument);
}

}  // namespace
}  // namespace vrwkv::data

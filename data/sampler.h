#pragma once

#include <cstdint>
#include <vector>

namespace vrwkv::data {

struct SamplerOptions {
  std::uint64_t seed = 0;
  bool shuffle = false;    ///< Without it: the dataset's order.
  int64_t batch_size = 1;  ///< Samples of one rank's batch.
  bool drop_last = false;  ///< Whole batches only, as many on every rank; otherwise every sample comes exactly once.
  int64_t rank = 0;
  int64_t world_size = 1;
  int64_t repeats = 1;  ///< Views of a sample, one after the other in the epoch's order, which keeps its length.
};

/// 0 … size - 1 in an order that is a function of (seed, epoch) alone.
std::vector<int64_t> epoch_permutation(int64_t size, std::uint64_t seed, int64_t epoch);

/// Which samples a rank sees in an epoch: of the epoch's order it takes positions rank, rank + world_size, … With
/// `repeats` (repeated augmentation: Hoffer et al. 2020, Touvron et al. 2021) the order holds each of its first samples
/// that often, so that the ranks share a sample's views; the samples that come change with the epoch.
class Sampler {
 public:
  /// Throws std::invalid_argument for options out of range, UsageError when drop_last would leave no batch at all.
  Sampler(int64_t size, const SamplerOptions& options);

  /// Samples of this rank in an epoch.
  int64_t samples_per_epoch() const { return samples_; }

  /// Batches of this rank in an epoch; the last one may be short without drop_last.
  int64_t batches_per_epoch() const;

  /// Numbers of views, samples_per_epoch() of them: view v of the sample at `index` is v * size + index; without
  /// repeats the indices into the dataset.
  std::vector<int64_t> epoch(int64_t epoch) const;

 private:
  int64_t size_;
  SamplerOptions options_;
  int64_t samples_;
};

}  // namespace vrwkv::data

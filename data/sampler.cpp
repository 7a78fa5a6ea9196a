#include "data/sampler.h"

#include <numeric>
#include <stdexcept>
#include <string>

#include "common/errors.h"
#include "data/random.h"

namespace vrwkv::data {

std::vector<int64_t> epoch_permutation(int64_t size, std::uint64_t seed, int64_t epoch) {
  Generator generator(seed, static_cast<std::uint64_t>(epoch), 0, RandomStream::order);
  return permutation(size, generator);
}

Sampler::Sampler(int64_t size, const SamplerOptions& options) : size_(size), options_(options), samples_(0) {
  if (size < 0 || options.batch_size < 1 || options.world_size < 1 || options.rank < 0 ||
      options.rank >= options.world_size || options.repeats < 1) {
    throw std::invalid_argument("Sampler: size " + std::to_string(size) + ", batch size " +
                                std::to_string(options.batch_size) + ", rank " + std::to_string(options.rank) + " of " +
                                std::to_string(options.world_size) + ", or " + std::to_string(options.repeats) +
                                " repeats, is out of range");
  }
  if (!options.drop_last) {
    samples_ = (size - options.rank + options.world_size - 1) / options.world_size;
    return;
  }
  samples_ = size / options.world_size / options.batch_size * options.batch_size;
  if (samples_ == 0) {
    throw UsageError("the dataset has " + std::to_string(size) + " images, fewer than one batch of " +
                     std::to_string(options.batch_size) + " on each of " + std::to_string(options.world_size) +
                     " processes: use a smaller batch");
  }
}

int64_t Sampler::batches_per_epoch() const { return (samples_ + options_.batch_size - 1) / options_.batch_size; }

std::vector<int64_t> Sampler::epoch(int64_t epoch) const {
  std::vector<int64_t> order;
  if (options_.shuffle) {
    order = epoch_permutation(size_, options_.seed, epoch);
  } else {
    order.resize(static_cast<std::size_t>(size_));
    std::iota(order.begin(), order.end(), 0);
  }
  std::vector<int64_t> share(static_cast<std::size_t>(samples_));
  for (int64_t i = 0; i < samples_; ++i) {
    const int64_t position = i * options_.world_size + options_.rank;
    const int64_t view = position % options_.repeats;
    share[static_cast<std::size_t>(i)] = view * size_ + order[static_cast<std::size_t>(position / options_.repeats)];
  }
  return share;
}

}  // namespace vrwkv::data

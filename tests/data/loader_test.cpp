#include "data/loader.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <ctime>
#include <map>
#include <thread>

#include "common/errors.h"
#include "tests/data/test_data.h"

namespace vrwkv::data {
namespace {

using testing::Bytes;
using testing::MemoryDataset;
using testing::message_of;

std::vector<Bytes> encoded_images(int64_t count, int64_t side = 12) {
  std::vector<Bytes> images;
  for (int64_t i = 0; i < count; ++i) {
    images.push_back(encode_png(testing::random_image(side, side + i % 3, static_cast<std::uint64_t>(i))));
  }
  return images;
}

/// `count` images, those in `corrupt` unreadable.
std::shared_ptr<const Dataset> dataset_of(int64_t count, const std::vector<int64_t>& corrupt = {}) {
  std::vector<Bytes> images = encoded_images(count);
  for (const int64_t index : corrupt) {
    images.at(static_cast<std::size_t>(index)).resize(40);
  }
  return std::make_shared<const MemoryDataset>(std::move(images), 10);
}

Transform small_transform() {
  TrainTransformOptions options;
  options.size = 8;
  return train_transform(options);
}

LoaderOptions training(int64_t workers, CorruptPolicy corrupt = CorruptPolicy::fail) {
  return {.batch_size = 4,
          .workers = workers,
          .prefetch_batches = 3,
          .seed = 17,
          .shuffle = true,
          .drop_last = true,
          .corrupt = corrupt,
          .max_corrupt_share = 0.1};
}

std::vector<Batch> rest_of_epoch(Loader& loader) {
  std::vector<Batch> batches;
  while (auto batch = loader.next()) {
    batches.push_back(std::move(*batch));
  }
  return batches;
}

std::vector<Batch> epoch_of(Loader& loader, int64_t epoch, int64_t first_batch = 0) {
  loader.start_epoch(epoch, first_batch);
  return rest_of_epoch(loader);
}

void expect_same(const std::vector<Batch>& expected, const std::vector<Batch>& actual) {
  ASSERT_EQ(expected.size(), actual.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    EXPECT_TRUE(expected[i].images.equal(actual[i].images)) << "batch " << i;
    EXPECT_TRUE(expected[i].labels.equal(actual[i].labels)) << "batch " << i;
    EXPECT_EQ(expected[i].names, actual[i].names);
    EXPECT_EQ(expected[i].indices, actual[i].indices);
  }
}

TEST(Loader, SameBatchesWhateverTheWorkers) {
  const auto dataset = dataset_of(50, {3, 20});
  Loader reference(dataset, small_transform(), training(1, CorruptPolicy::skip));
  const std::vector<Batch> first = epoch_of(reference, 5);
  ASSERT_EQ(std::ssize(first), reference.batches_per_epoch());
  ASSERT_EQ(first.size(), 12U);
  for (const int64_t workers : {1, 2, 5}) {
    for (const int64_t prefetch : {1, 7}) {
      LoaderOptions options = training(workers, CorruptPolicy::skip);
      options.prefetch_batches = prefetch;
      Loader loader(dataset, small_transform(), options);
      epoch_of(loader, 4);
      expect_same(first, epoch_of(loader, 5));
      EXPECT_EQ(loader.stats().corrupt, reference.stats().corrupt);
    }
  }
}

TEST(Loader, EpochsAndSeedsDiffer) {
  const auto dataset = dataset_of(40);
  Loader loader(dataset, small_transform(), training(2));
  LoaderOptions other_seed = training(2);
  other_seed.seed = 18;
  Loader other(dataset, small_transform(), other_seed);
  const auto first = epoch_of(loader, 0);
  EXPECT_NE(first[0].indices, epoch_of(loader, 1)[0].indices);
  EXPECT_NE(first[0].indices, epoch_of(other, 0)[0].indices);
}

TEST(Loader, ResumesWithinAnEpoch) {
  const auto dataset = dataset_of(41, {8});
  Loader loader(dataset, small_transform(), training(2, CorruptPolicy::skip));
  const std::vector<Batch> whole = epoch_of(loader, 3);
  for (const int64_t first : {1, 6, 10}) {
    Loader resumed(dataset, small_transform(), training(3, CorruptPolicy::skip));
    const std::vector<Batch> rest = epoch_of(resumed, 3, first);
    expect_same({whole.begin() + first, whole.end()}, rest);
  }
  EXPECT_THROW(loader.start_epoch(3, 11), std::invalid_argument);
  EXPECT_THROW(loader.start_epoch(-1), std::invalid_argument);
}

TEST(Loader, ASampleDependsOnItsIndexAlone) {
  const auto dataset = dataset_of(30);
  std::map<int64_t, at::Tensor> seen;
  Loader single(dataset, small_transform(), training(2));
  for (const Batch& batch : epoch_of(single, 2)) {
    for (std::size_t i = 0; i < batch.indices.size(); ++i) {
      EXPECT_EQ(batch.labels[static_cast<int64_t>(i)].item<int64_t>(), batch.indices[i] % 10);
      EXPECT_EQ(batch.names[i], "image" + std::to_string(batch.indices[i]));
      seen[batch.indices[i]] = batch.images[static_cast<int64_t>(i)];
    }
  }
  int64_t compared = 0;
  for (const int64_t rank : {0, 1, 2}) {
    LoaderOptions options = training(2);
    options.batch_size = 3;
    options.rank = rank;
    options.world_size = 3;
    Loader loader(dataset, small_transform(), options);
    for (const Batch& batch : epoch_of(loader, 2)) {
      for (std::size_t i = 0; i < batch.indices.size(); ++i) {
        if (seen.contains(batch.indices[i])) {
          EXPECT_TRUE(seen[batch.indices[i]].equal(batch.images[static_cast<int64_t>(i)]));
          ++compared;
        }
      }
    }
  }
  EXPECT_GE(compared, 24);
}

TEST(Loader, EvaluationSeesEverySampleOnceInOrder) {
  Loader loader(dataset_of(10), eval_transform({.resize = 9, .size = 8}), {.batch_size = 4, .workers = 3});
  EXPECT_EQ(loader.batches_per_epoch(), 3);
  const auto batches = epoch_of(loader, 0);
  ASSERT_EQ(batches.size(), 3U);
  EXPECT_EQ(batches[2].images.sizes(), (at::IntArrayRef{2, 8, 8, 3}));
  EXPECT_EQ(batches[2].labels.sizes(), (at::IntArrayRef{2}));
  EXPECT_EQ(batches[1].indices, (std::vector<int64_t>{4, 5, 6, 7}));
  EXPECT_FALSE(loader.next().has_value());
}

TEST(Loader, SkipsCorruptImages) {
  const auto dataset = dataset_of(40, {5, 6, 31});
  Loader loader(dataset, small_transform(), training(3, CorruptPolicy::skip));
  for (const Batch& batch : epoch_of(loader, 0)) {
    EXPECT_EQ(batch.images.size(0), 4);
    for (const int64_t index : batch.indices) {
      EXPECT_TRUE(index != 5 && index != 6 && index != 31);
    }
  }
  EXPECT_EQ(loader.stats().corrupt, 3);
  loader.start_epoch(1);
  EXPECT_EQ(loader.stats().corrupt, 0);
}

TEST(Loader, StopsWhenTooManyAreCorrupt) {
  for (const int64_t workers : {1, 4}) {
    Loader loader(dataset_of(40, {1, 2, 3, 4, 5}), small_transform(), training(workers, CorruptPolicy::skip));
    const std::string message = message_of<std::runtime_error>([&] { epoch_of(loader, 0); });
    EXPECT_NE(message.find("too many corrupt images: 5 of the epoch's 40 (12.5 %)"), std::string::npos) << message;
    EXPECT_NE(message.find("max_corrupt_share 0.1"), std::string::npos) << message;
    EXPECT_NE(message.find("image"), std::string::npos) << message;
    EXPECT_FALSE(loader.next().has_value());
  }
}

TEST(Loader, OneCorruptImageIsAllowedUnlessTheShareIsZero) {
  LoaderOptions options = training(2, CorruptPolicy::skip);
  options.max_corrupt_share = 1e-6;
  Loader tolerant(dataset_of(40, {7}), small_transform(), options);
  EXPECT_EQ(epoch_of(tolerant, 0).size(), 10U);
  options.max_corrupt_share = 0;
  Loader strict(dataset_of(40, {7}), small_transform(), options);
  EXPECT_THROW(epoch_of(strict, 0), std::runtime_error);
}

TEST(Loader, GivesUpWhenNothingIsReadable) {
  LoaderOptions options = training(2, CorruptPolicy::skip);
  options.max_corrupt_share = 1;
  Loader loader(dataset_of(4, {0, 1, 2, 3}), small_transform(), options);
  const std::string message = message_of<ImageError>([&] { epoch_of(loader, 0); });
  EXPECT_NE(message.find("no readable image in 65 tries"), std::string::npos) << message;
}

TEST(Loader, EvaluationNamesTheCorruptFile) {
  for (const int64_t workers : {1, 4}) {
    Loader loader(dataset_of(40, {9, 14}), eval_transform({.resize = 8, .size = 8}),
                  {.batch_size = 8, .workers = workers});
    loader.start_epoch(0);
    EXPECT_TRUE(loader.next().has_value());  // what comes before the corrupt image is delivered
    const std::string message = message_of<ImageError>([&] { loader.next(); });
    EXPECT_EQ(message, "image9: PNG: the data is truncated");
    EXPECT_FALSE(loader.next().has_value());
    EXPECT_EQ(epoch_of(loader, 0, 2).size(), 3U);  // the loader can be used again
  }
}

TEST(Loader, ErrorsOfATransformReachTheCaller) {
  const Transform failing{8, [](const ImageSource&, Generator&) -> at::Tensor { throw std::domain_error("no good"); }};
  Loader loader(dataset_of(8), failing, training(2, CorruptPolicy::skip));
  EXPECT_NE(message_of<std::runtime_error>([&] { epoch_of(loader, 0); }).find(": no good"), std::string::npos);
  const Transform wrong{8, [](const ImageSource& image, Generator&) { return image.whole(); }};
  Loader mismatched(dataset_of(8), wrong, training(2, CorruptPolicy::skip));
  EXPECT_THROW(epoch_of(mismatched, 0), std::logic_error);
}

TEST(Loader, RefusesBadOptions) {
  EXPECT_THROW(Loader(dataset_of(3), small_transform(), training(1)), UsageError);  // fewer than a batch
  EXPECT_THROW(Loader(dataset_of(0), small_transform(), {}), UsageError);
  EXPECT_THROW(Loader(nullptr, small_transform(), {}), std::invalid_argument);
  EXPECT_THROW(Loader(dataset_of(3), small_transform(), {.workers = -1}), std::invalid_argument);
  EXPECT_THROW(Loader(dataset_of(3), small_transform(), {.prefetch_batches = 0}), std::invalid_argument);
  Loader loader(dataset_of(3), small_transform(), {});
  EXPECT_THROW(loader.next(), std::logic_error);
}

TEST(Loader, StopsCleanlyAtAnyMoment) {
  const auto dataset = dataset_of(64);
  for (int trial = 0; trial < 100; ++trial) {
    LoaderOptions options = training(1 + trial % 4);
    options.prefetch_batches = 1 + trial % 5;
    Loader loader(dataset, small_transform(), options);
    if (trial % 10 == 0) {
      continue;  // never started
    }
    loader.start_epoch(0);
    for (int i = 0; i < trial % 7; ++i) {
      loader.next();
    }
  }
}

TEST(Loader, RestartsAtAnyMoment) {
  const auto dataset = dataset_of(64);
  Loader loader(dataset, small_transform(), training(4));
  const auto expected = epoch_of(loader, 1, 12);
  for (int trial = 0; trial < 100; ++trial) {
    loader.start_epoch(trial, trial % 3);
    for (int i = 0; i < trial % 5; ++i) {
      loader.next();
    }
    expect_same(expected, epoch_of(loader, 1, 12));
  }
}

/// Counts how often it is read, and takes its time.
class SlowDataset final : public MemoryDataset {
 public:
  SlowDataset(int64_t count, std::chrono::milliseconds delay)
      : MemoryDataset(encoded_images(count), 10), delay_(delay) {}

  EncodedSample get(int64_t index) const override {
    ++reads_;
    std::this_thread::sleep_for(delay_);
    return MemoryDataset::get(index);
  }
  int reads() const { return reads_; }

  /// Returns when `count` reads have begun, and a moment later, so that they are over and others would have begun.
  void wait_for_reads(int count) const {
    while (reads_ < count) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }

 private:
  std::chrono::milliseconds delay_;
  mutable std::atomic<int> reads_ = 0;
};

TEST(Loader, PreparesNoMoreThanItsWindowAndSleepsThen) {
  const auto dataset = std::make_shared<const SlowDataset>(64, std::chrono::milliseconds(0));
  Loader loader(dataset, small_transform(), training(3));
  loader.start_epoch(0);
  dataset->wait_for_reads(12);
  const std::clock_t before = std::clock();
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  EXPECT_LT(static_cast<double>(std::clock() - before) / CLOCKS_PER_SEC, 0.1);  // processor time of all threads
  EXPECT_EQ(dataset->reads(), 12);                                              // three batches of four
  loader.next();
  dataset->wait_for_reads(16);
  EXPECT_EQ(dataset->reads(), 16);
}

TEST(Loader, CountsTheTimeThatTheCallerWaits) {
  const auto dataset = std::make_shared<const SlowDataset>(16, std::chrono::milliseconds(10));
  Loader loader(dataset, small_transform(), training(1));
  epoch_of(loader, 0);
  EXPECT_GT(loader.stats().wait_seconds, 0.14);
  loader.start_epoch(1);
  dataset->wait_for_reads(16 + 12);  // three of four batches are ready by then
  for (int i = 0; i < 3; ++i) {
    loader.next();
  }
  EXPECT_LT(loader.stats().wait_seconds, 0.05);
}

int64_t thread_count() {
  return std::distance(std::filesystem::directory_iterator("/proc/self/task"), std::filesystem::directory_iterator());
}

TEST(Loader, WorkersStartNoThreadsOfTheirOwn) {
  const int threads = at::get_num_threads();
  at::set_num_threads(4);          // so that ATen would go parallel where it can
  at::ones({2000, 2000}).add_(1);  // the main thread's own pool
  const int64_t before = thread_count();
  {
    const auto dataset = std::make_shared<const MemoryDataset>(encoded_images(24, 500), 10);
    Loader loader(dataset, train_transform({}), training(3));
    loader.start_epoch(0);
    int64_t most = 0;
    while (loader.next()) {
      most = std::max(most, thread_count());
    }
    EXPECT_EQ(most, before + 3);
    EXPECT_EQ(at::get_num_threads(), 4);
  }
  EXPECT_EQ(thread_count(), before);
  EXPECT_EQ(at::get_num_threads(), 4);
  at::set_num_threads(threads);
}

TEST(Loader, RepeatsAnImageInDifferentViews) {
  LoaderOptions options = training(2);
  options.repeats = 2;
  Loader loader(dataset_of(16), small_transform(), options);
  Loader plain(dataset_of(16), small_transform(), training(1));
  const auto batches = epoch_of(loader, 1), usual = epoch_of(plain, 1);
  ASSERT_EQ(batches.size(), 4U);
  for (const Batch& batch : batches) {
    for (std::size_t i = 0; i < 4; i += 2) {
      EXPECT_EQ(batch.indices[i], batch.indices[i + 1]);
      EXPECT_EQ(batch.views[i], batch.indices[i]);
      EXPECT_EQ(batch.views[i + 1], batch.indices[i] + 16);
      EXPECT_EQ(batch.names[i], batch.names[i + 1]);
      const auto row = static_cast<int64_t>(i);
      EXPECT_FALSE(batch.images[row].equal(batch.images[row + 1]));
    }
  }
  // The first view is the one that the image has without repeats.
  EXPECT_EQ(batches[0].indices[2], usual[0].indices[1]);
  EXPECT_TRUE(batches[0].images[2].equal(usual[0].images[1]));
  EXPECT_EQ(usual[0].views, usual[0].indices);
}

}  // namespace
}  // namespace vrwkv::data

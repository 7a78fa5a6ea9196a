#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>

#include "data/jpeg_codec.h"
#include "data/jpeg_encoder.h"
#include "data/loader.h"
#include "tests/data/test_data.h"

// The loader with a device that does half of the work: here the CPU, by the functions that the loader's threads use
// without one.
namespace vrwkv::data {
namespace {

using testing::Bytes;
using testing::MemoryDataset;
using testing::message_of;

constexpr int64_t kSize = 16;

TrainTransformOptions transform_options() {
  TrainTransformOptions options;
  options.size = kSize;
  options.rand_augment.num_ops = 2;
  return options;
}

/// Refuses to decode every image whose index is a multiple of `refused`, if that is not 0.
class CpuStage : public DeviceStage {
 public:
  explicit CpuStage(int64_t group, int64_t refused = 0) : group_(group), refused_(refused) {
    options_.transform = transform_options();
  }

  int64_t size() const override { return kSize; }
  int64_t group_size() const override { return group_; }
  int64_t waiting_threads() const override { return 2; }
  at::Tensor allocate(int64_t count) override { return at::zeros({count, kSize, kSize, 3}, at::kByte); }
  PreparedSample prepare(const Dataset& dataset, int64_t view, std::uint64_t seed, int64_t epoch,
                         CorruptPolicy policy) const override {
    return prepare_sample(dataset, view, options_, seed, epoch, policy);
  }
  void render(std::span<PreparedSample> samples, const at::Tensor& images,
              const std::function<LoadedSample(int64_t)>& on_cpu) override {
    EXPECT_EQ(images.size(0), std::ssize(samples));
    EXPECT_LE(std::ssize(samples), group_);
    if (failing) throw std::runtime_error("the device is gone");
    for (std::size_t i = 0; i < samples.size(); ++i) {
      PreparedSample& sample = samples[i];
      if (sample.error) continue;
      at::Tensor row = images[static_cast<int64_t>(i)];
      if (refused_ > 0 && sample.sample.index % refused_ == 0) {
        try {
          sample.sample = on_cpu(sample.requested);
          row.copy_(sample.sample.image);
        } catch (...) {
          sample.error = std::current_exception();
        }
      } else {
        const at::Tensor pixels = sample.pixels.defined()
                                      ? sample.pixels
                                      : decode_jpeg_part(sample.source.bytes, sample.view.box, sample.view.reduction);
        row.copy_(make_train_view(pixels, sample.view, kSize));
      }
    }
  }
  void hand_over(const at::Tensor& /*images*/) override { ++handed_over; }

  std::atomic<bool> failing = false;
  int64_t handed_over = 0;

 private:
  PrepareOptions options_;
  int64_t group_;
  int64_t refused_;
};

/// JPEGs and PNGs; those in `corrupt` truncated.
std::shared_ptr<const Dataset> dataset_of(int64_t count, const std::vector<int64_t>& corrupt = {}) {
  std::vector<Bytes> images;
  for (int64_t i = 0; i < count; ++i) {
    const at::Tensor image = testing::random_image(20, 20 + i % 3, static_cast<std::uint64_t>(i));
    images.push_back(i % 5 == 2 ? encode_png(image) : encode_jpeg(image, 80));
  }
  for (const int64_t index : corrupt) images.at(static_cast<std::size_t>(index)).resize(40);
  return std::make_shared<const MemoryDataset>(std::move(images), 10);
}

LoaderOptions training(int64_t workers, std::shared_ptr<DeviceStage> device, int64_t batch_size = 10) {
  LoaderOptions options;
  options.batch_size = batch_size;
  options.workers = workers;
  options.prefetch_batches = 3;
  options.seed = 17;
  options.shuffle = true;
  options.drop_last = false;
  options.corrupt = CorruptPolicy::skip;
  options.max_corrupt_share = 0.1;
  options.device = std::move(device);
  return options;
}

std::vector<Batch> epoch_of(Loader& loader, int64_t epoch, int64_t first_batch = 0) {
  std::vector<Batch> batches;
  loader.start_epoch(epoch, first_batch);
  while (auto batch = loader.next()) batches.push_back(std::move(*batch));
  return batches;
}

void expect_same(const std::vector<Batch>& expected, const std::vector<Batch>& actual) {
  ASSERT_EQ(expected.size(), actual.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    EXPECT_TRUE(expected[i].images.equal(actual[i].images)) << "batch " << i;
    EXPECT_TRUE(expected[i].labels.equal(actual[i].labels)) << "batch " << i;
    EXPECT_EQ(expected[i].names, actual[i].names);
    EXPECT_EQ(expected[i].indices, actual[i].indices);
    EXPECT_EQ(expected[i].views, actual[i].views);
  }
}

TEST(DeviceLoader, GivesTheBatchesOfTheThreads) {
  const auto dataset = dataset_of(53, {3, 20});
  Loader reference(dataset, train_transform(transform_options()), training(2, nullptr));
  const std::vector<Batch> expected = epoch_of(reference, 5);
  ASSERT_EQ(expected.size(), 6U);
  for (const int64_t workers : {1, 4}) {
    for (const int64_t group : {1, 3, 10, 64}) {
      for (const int64_t refused : {0, 1, 4}) {
        const auto stage = std::make_shared<CpuStage>(group, refused);
        Loader loader(dataset, train_transform(transform_options()), training(workers, stage));
        expect_same(expected, epoch_of(loader, 5));
        EXPECT_EQ(loader.stats().corrupt, reference.stats().corrupt);
        EXPECT_EQ(stage->handed_over, 6);
        expect_same({expected.begin() + 4, expected.end()}, epoch_of(loader, 5, 4));
      }
    }
  }
}

TEST(DeviceLoader, CountsCorruptImagesAsTheThreadsDo) {
  for (const int64_t refused : {0, 1}) {
    const auto dataset = dataset_of(40, {1, 2, 3, 4, 6});
    Loader loader(dataset, train_transform(transform_options()), training(3, std::make_shared<CpuStage>(4, refused)));
    const std::string message = message_of<std::runtime_error>([&] { epoch_of(loader, 0); });
    EXPECT_NE(message.find("too many corrupt images: 5 of the epoch's 40"), std::string::npos) << message;
    EXPECT_FALSE(loader.next().has_value());
  }
}

TEST(DeviceLoader, NamesTheFirstCorruptFileOfABatch) {
  for (const int64_t refused : {0, 1}) {
    LoaderOptions options = training(3, std::make_shared<CpuStage>(4, refused), 8);
    options.corrupt = CorruptPolicy::fail;
    options.shuffle = false;
    Loader loader(dataset_of(40, {9, 14}), train_transform(transform_options()), options);
    loader.start_epoch(0);
    EXPECT_TRUE(loader.next().has_value());
    const std::string message = message_of<ImageError>([&] { loader.next(); });
    EXPECT_TRUE(message.starts_with("image9: ")) << message;
    EXPECT_FALSE(loader.next().has_value());
    EXPECT_EQ(epoch_of(loader, 0, 2).size(), 3U);
  }
}

TEST(DeviceLoader, DeliversWhatTheDeviceThrows) {
  const auto stage = std::make_shared<CpuStage>(4);
  Loader loader(dataset_of(20), train_transform(transform_options()), training(2, stage));
  stage->failing = true;
  EXPECT_EQ(message_of<std::runtime_error>([&] { epoch_of(loader, 0); }), "the device is gone");
  stage->failing = false;
  EXPECT_EQ(epoch_of(loader, 1).size(), 2U);
}

TEST(DeviceLoader, StopsAndRestartsCleanlyAtAnyMoment) {
  const auto dataset = dataset_of(64);
  for (int trial = 0; trial < 60; ++trial) {
    Loader loader(dataset, train_transform(transform_options()),
                  training(1 + trial % 4, std::make_shared<CpuStage>(1 + trial % 7)));
    loader.start_epoch(0);
    for (int i = 0; i < trial % 5; ++i) loader.next();
    if (trial % 3 == 0) {
      loader.start_epoch(1, trial % 4);
      loader.next();
    }
  }
}

TEST(DeviceLoader, RefusesADeviceForAnotherSize) {
  TrainTransformOptions other = transform_options();
  other.size = kSize + 1;
  const std::string message = message_of<std::invalid_argument>(
      [&] { Loader(dataset_of(20), train_transform(other), training(1, std::make_shared<CpuStage>(4))); });
  EXPECT_NE(message.find("samples of 17 pixels, but a device for 16"), std::string::npos) << message;
}

}  // namespace
}  // namespace vrwkv::data

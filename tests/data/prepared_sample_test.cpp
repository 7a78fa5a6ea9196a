#include "data/prepared_sample.h"

#include <gtest/gtest.h>

#include <array>
#include <string>

#include "data/baseline_jpeg.h"
#include "data/jpeg_codec.h"
#include "data/jpeg_encoder.h"
#include "data/resize.h"
#include "tests/data/test_data.h"

namespace vrwkv::data {
namespace {

using testing::Bytes;
using testing::MemoryDataset;
using testing::message_of;
using testing::random_image;

constexpr std::uint64_t kSeed = 7;
constexpr int64_t kEpoch = 3;

Bytes file_bytes(const std::string& name) { return *read_file_bytes(testing::fixture(name)); }

TEST(BaselineJpeg, TakesWhatHardwareDecodes) {
  for (const char* name : {"rgb_420.jpg", "rgb_422.jpg", "rgb_444.jpg", "restarts.jpg", "orientation.jpg"}) {
    EXPECT_TRUE(is_baseline_jpeg(file_bytes(name))) << name;
  }
  EXPECT_TRUE(is_baseline_jpeg(encode_jpeg(random_image(20, 33, 1), 90)));
}

TEST(BaselineJpeg, LeavesTheRestToTheCpu) {
  for (const char* name : {"grey.jpg", "cmyk.jpg", "ycck.jpg", "progressive.jpg", "stored_rgb.jpg", "rgb.png"}) {
    EXPECT_FALSE(is_baseline_jpeg(file_bytes(name))) << name;
  }
  const Bytes whole = file_bytes("rgb_420.jpg");
  for (std::size_t length = 0; length < whole.size(); ++length) {
    EXPECT_FALSE(is_baseline_jpeg(std::span(whole).first(length))) << "the first " << length << " bytes";
  }
}

TEST(BaselineJpeg, ReadsNoByteBeyondDamagedHeaders) {
  const Bytes whole = file_bytes("rgb_420.jpg");
  for (std::size_t i = 0; i < std::min<std::size_t>(whole.size(), 700); ++i) {
    for (const int value : {0x00, 0xFF, 0xC0, 0xDA}) {
      const auto damaged = std::make_unique<Bytes>(whole);  // So that the sanitizer sees a step too far.
      (*damaged)[i] = static_cast<std::uint8_t>(value);
      is_baseline_jpeg(*damaged);
    }
  }
}

/// JPEGs, a PNG among them, and one that is truncated.
MemoryDataset mixed_dataset() {
  std::vector<Bytes> images;
  for (int64_t i = 0; i < 12; ++i) {
    const at::Tensor image = random_image(40 + i, 60 - 3 * i, static_cast<std::uint64_t>(i));
    images.push_back(i % 4 == 3 ? encode_png(image) : encode_jpeg(image, 85));
  }
  images[5].resize(300);
  return {std::move(images), 4};
}

PrepareOptions options_of(TrainCrop crop, double device_share) {
  PrepareOptions options;
  options.transform.size = 24;
  options.transform.crop = crop;
  options.transform.rand_augment.num_ops = 2;
  options.transform.color_jitter = 0.3;
  options.device_share = device_share;
  return options;
}

/// What a device makes of the sample, by the CPU's functions.
at::Tensor finish(const PreparedSample& prepared, int64_t size) {
  if (prepared.sample.image.defined()) return prepared.sample.image;
  const at::Tensor pixels = prepared.pixels.defined()
                                ? prepared.pixels
                                : decode_jpeg_part(prepared.source.bytes, prepared.view.box, prepared.view.reduction);
  return make_train_view(pixels, prepared.view, size);
}

TEST(PreparedSample, IsTheLoadedSampleHalfWay) {
  const MemoryDataset dataset = mixed_dataset();
  for (const TrainCrop crop : {TrainCrop::random_resized, TrainCrop::pad, TrainCrop::resize}) {
    for (const double share : {0.0, 0.5, 1.0}) {
      for (const int64_t max_pixels : {int64_t{300}, int64_t{1} << 24}) {
        PrepareOptions options = options_of(crop, share);
        options.max_device_pixels = max_pixels;
        for (int64_t view = 0; view < 2 * dataset.size(); ++view) {
          const LoadedSample expected =
              load_sample(dataset, view, train_transform(options.transform), kSeed, kEpoch, CorruptPolicy::skip);
          const PreparedSample actual = prepare_sample(dataset, view, options, kSeed, kEpoch, CorruptPolicy::skip);
          EXPECT_TRUE(expected.image.equal(finish(actual, options.transform.size))) << "view " << view;
          EXPECT_EQ(actual.requested, view);
          EXPECT_EQ(actual.sample.view, expected.view);
          EXPECT_EQ(actual.sample.index, expected.index);
          EXPECT_EQ(actual.sample.label, expected.label);
          EXPECT_EQ(actual.sample.name, expected.name);
          ASSERT_EQ(actual.sample.corrupt.size(), expected.corrupt.size());
          for (std::size_t i = 0; i < expected.corrupt.size(); ++i) {
            EXPECT_EQ(actual.sample.corrupt[i].message, expected.corrupt[i].message);
          }
        }
      }
    }
  }
}

TEST(PreparedSample, LeavesSoManyJpegsToTheDevice) {
  std::vector<Bytes> images(1, encode_jpeg(random_image(30, 30, 1), 85));
  const MemoryDataset dataset(std::move(images), 1);
  for (const double share : {0.0, 0.3, 1.0}) {
    constexpr int kViews = 2000;
    int encoded = 0;
    for (int64_t view = 0; view < kViews; ++view) {
      const PreparedSample sample = prepare_sample(dataset, view, options_of(TrainCrop::random_resized, share), kSeed,
                                                   kEpoch, CorruptPolicy::fail);
      encoded += sample.source.bytes.empty() ? 0 : 1;
    }
    EXPECT_NEAR(encoded, share * kViews, 5 * std::sqrt(kViews * share * (1 - share))) << share;
  }
}

TEST(PreparedSample, BoundsWhatTheDeviceHolds) {
  std::vector<Bytes> images(1, encode_jpeg(random_image(40, 50, 1), 85));
  const MemoryDataset dataset(std::move(images), 1);
  PrepareOptions options = options_of(TrainCrop::resize, 1);
  options.max_device_pixels = 40 * 50;
  EXPECT_FALSE(prepare_sample(dataset, 0, options, kSeed, kEpoch, CorruptPolicy::fail).source.bytes.empty());
  --options.max_device_pixels;
  const PreparedSample large = prepare_sample(dataset, 0, options, kSeed, kEpoch, CorruptPolicy::fail);
  EXPECT_TRUE(large.source.bytes.empty());
  EXPECT_TRUE(large.sample.image.defined());
  // Few pixels, but so many rows that their final width makes them too many.
  std::vector<Bytes> tall(1, encode_png(random_image(800, 1, 1)));
  options.max_device_pixels = 800 * options.transform.size - 1;
  const MemoryDataset tall_dataset(std::move(tall), 1);
  EXPECT_TRUE(prepare_sample(tall_dataset, 0, options, kSeed, kEpoch, CorruptPolicy::fail).sample.image.defined());
  ++options.max_device_pixels;
  EXPECT_TRUE(prepare_sample(tall_dataset, 0, options, kSeed, kEpoch, CorruptPolicy::fail).pixels.defined());
}

TEST(PreparedSample, FailsAsTheLoadedSampleDoes) {
  const MemoryDataset dataset = mixed_dataset();
  const PrepareOptions options = options_of(TrainCrop::random_resized, 1);
  const auto message = [&](const auto& load) { return message_of<ImageError>(load); };
  EXPECT_EQ(message([&] { prepare_sample(dataset, 5, options, kSeed, kEpoch, CorruptPolicy::fail); }), message([&] {
              load_sample(dataset, 5, train_transform(options.transform), kSeed, kEpoch, CorruptPolicy::fail);
            }));
}

}  // namespace
}  // namespace vrwkv::data

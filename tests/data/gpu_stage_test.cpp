#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "common/errors.h"
#include "data/gpu/make_stage.h"
#include "data/jpeg_codec.h"
#include "data/jpeg_encoder.h"
#include "data/loader.h"
#include "tests/data/serial_block.h"
#include "tests/data/test_data.h"

#ifdef VRWKV_WITH_CUDA
#include <c10/cuda/CUDAStream.h>

#include "data/gpu/view_batch.h"
#endif

namespace vrwkv::data {
namespace {

using testing::Bytes;
using testing::MemoryDataset;
using testing::message_of;
using testing::random_image;

DataOptions options_of(DecodeDevice decode) {
  DataOptions options;
  options.decode = decode;
  return options;
}

TEST(GpuStage, IsThereOnlyWhereItWasAskedFor) {
  EXPECT_EQ(gpu::make_stage(options_of(DecodeDevice::cpu), 32, at::kCPU), nullptr);
  EXPECT_EQ(gpu::make_stage(options_of(DecodeDevice::cpu), 32, at::kCUDA), nullptr);
  EXPECT_EQ(gpu::make_stage(options_of(DecodeDevice::automatic), 32, at::kCPU), nullptr);
  const std::string on_cpu =
      message_of<UsageError>([] { gpu::make_stage(options_of(DecodeDevice::gpu), 32, at::kCPU); });
  EXPECT_EQ(
      on_cpu,
      "data.decode is gpu, but the run's device is cpu; run on a GPU (run.device: cuda), or set data.decode to cpu "
      "or auto");
}

TEST(GpuStage, SaysHowToGetNvJpeg) {
  if (gpu::built_for_gpu()) GTEST_SKIP() << "this build has nvJPEG";
  EXPECT_EQ(gpu::make_stage(options_of(DecodeDevice::automatic), 32, at::kCUDA), nullptr);
  const std::string message =
      message_of<UsageError>([] { gpu::make_stage(options_of(DecodeDevice::gpu), 32, at::kCUDA); });
  EXPECT_NE(message.find("built without nvJPEG; install it"), std::string::npos) << message;
}

#ifdef VRWKV_WITH_CUDA

bool has_gpu() { return at::globalContext().hasCUDA(); }

TrainTransformOptions transform_options(int64_t size, bool augmented) {
  TrainTransformOptions options;
  options.size = size;
  if (augmented) {
    options.rand_augment = {.num_ops = 3, .prob = 0.8};
    options.color_jitter = 0.4;
  }
  return options;
}

TEST(ViewBatch, GivesTheViewsOfTheSameArithmeticOnTheCpu) {
  if (!has_gpu()) GTEST_SKIP() << "no CUDA device";
  constexpr int64_t kCount = 70;
  for (const int64_t size : {1, 31, 96}) {
    for (const bool resized : {false, true}) {
      TrainTransformOptions options = transform_options(size, true);
      options.three_augment = true;
      options.crop = resized ? TrainCrop::random_resized : TrainCrop::pad;
      std::vector<at::Tensor> images, on_device;
      std::vector<TrainView> views;
      for (int64_t i = 0; i < kCount; ++i) {
        const int64_t height = resized ? 20 + 5 * i : size, width = resized ? 300 - 4 * i : size;
        images.push_back(random_image(height, width, static_cast<std::uint64_t>(i)));
        on_device.push_back(images.back().to(at::kCUDA));
        Generator generator(1, 2, static_cast<std::uint64_t>(i), RandomStream::transform);
        views.push_back(draw_train_view(height, width, options, generator));
        if (resized) views.back().operations.clear();  // The resize alone may differ.
      }
      const at::Tensor actual = at::full({kCount, size, size, 3}, 99, on_device[0].options());
      std::vector<gpu::DeviceView> tasks;
      for (int64_t i = 0; i < kCount; ++i) {
        const auto at = static_cast<std::size_t>(i);
        const Box& box = views[at].box;
        const int64_t stride = 3 * images[at].size(1);
        tasks.push_back({on_device[at].const_data_ptr<std::uint8_t>() + box.top * stride + 3 * box.left, stride,
                         &views[at], actual[i].mutable_data_ptr<std::uint8_t>()});
      }
      const gpu::ViewBatch batch(tasks, size, at::kCUDA);
      batch.resize();
      batch.augment();
      const at::Tensor found = actual.cpu();
      for (int64_t i = 0; i < kCount; ++i) {
        const auto at = static_cast<std::size_t>(i);
        const Box& box = views[at].box;
        const at::Tensor pixels = images[at].narrow(0, box.top, box.height).narrow(1, box.left, box.width).contiguous();
        const at::Tensor expected = testing::make_view_serially(pixels, views[at], size);
        // A fused multiply-add rounds a tie of the resize otherwise; an image that is not resized has none.
        EXPECT_LE(testing::max_difference(expected, found[i]), resized ? 1 : 0) << "size " << size << ", image " << i;
      }
    }
  }
}

/// Smooth JPEGs, which two decoders agree on, and PNGs; `truncated` cut off, `damaged` with zeros in their middle.
std::shared_ptr<const Dataset> dataset_of(int64_t count, const std::vector<int64_t>& truncated = {},
                                          const std::vector<int64_t>& damaged = {}) {
  std::vector<Bytes> images;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t height = 90 + 3 * (i % 17), width = 140 - 5 * (i % 13);
    const at::Tensor y = at::arange(height, at::kFloat).reshape({height, 1, 1}) / (20.0 + static_cast<double>(i % 7));
    const at::Tensor x = at::arange(width, at::kFloat).reshape({1, width, 1}) / 25.0;
    const at::Tensor waves = 127.5 + 90 * at::sin(y + static_cast<double>(i)) * at::cos(x + at::arange(3).div(2.0));
    const at::Tensor image = waves.round().to(at::kByte).contiguous();
    images.push_back(i % 10 == 9 ? encode_png(image) : encode_jpeg(image, 92));
  }
  for (const int64_t i : truncated) {
    Bytes& bytes = images.at(static_cast<std::size_t>(i));
    bytes.resize(bytes.size() / 2);
  }
  for (const int64_t i : damaged) {
    Bytes& bytes = images.at(static_cast<std::size_t>(i));
    std::fill(bytes.end() - std::ssize(bytes) / 3, bytes.end() - std::ssize(bytes) / 4, std::uint8_t{0xFF});
  }
  return std::make_shared<const MemoryDataset>(std::move(images), 10);
}

class GpuLoader : public ::testing::Test {
 protected:
  static constexpr int64_t kSize = 64;

  void SetUp() override {
    if (!has_gpu()) GTEST_SKIP() << "no CUDA device";
    if (!gpu::built_for_gpu()) GTEST_SKIP() << "this build has no nvJPEG";
  }

  static std::unique_ptr<Loader> loader(const std::shared_ptr<const Dataset>& dataset, bool on_gpu, double gpu_share,
                                        bool augmented, int64_t workers = 3) {
    DataOptions data = options_of(on_gpu ? DecodeDevice::gpu : DecodeDevice::cpu);
    data.train_transform = transform_options(kSize, augmented);
    data.gpu_share = gpu_share;
    LoaderOptions options;
    options.batch_size = 100;
    options.workers = workers;
    options.prefetch_batches = 2;
    options.seed = 5;
    options.shuffle = true;
    options.corrupt = CorruptPolicy::skip;
    options.max_corrupt_share = 0.1;
    options.device = gpu::make_stage(data, kSize, at::kCUDA);
    return std::make_unique<Loader>(dataset, train_transform(data.train_transform), options);
  }

  static std::vector<Batch> epoch_of(Loader& loader, int64_t epoch, int64_t first_batch = 0) {
    std::vector<Batch> batches;
    loader.start_epoch(epoch, first_batch);
    while (auto batch = loader.next()) {
      batch->images = batch->images.cpu();
      batches.push_back(std::move(*batch));
    }
    return batches;
  }

  static void expect_same_samples(const std::vector<Batch>& expected, const std::vector<Batch>& actual) {
    ASSERT_EQ(expected.size(), actual.size());
    for (std::size_t i = 0; i < expected.size(); ++i) {
      EXPECT_TRUE(expected[i].labels.equal(actual[i].labels));
      EXPECT_EQ(expected[i].names, actual[i].names);
      EXPECT_EQ(expected[i].indices, actual[i].indices);
      EXPECT_EQ(expected[i].views, actual[i].views);
    }
  }
};

TEST_F(GpuLoader, PixelsThatTheCpuDecodedDifferByTheResizeAlone) {
  const auto dataset = dataset_of(230, {4, 77});
  const auto expected = epoch_of(*loader(dataset, false, 0, false), 1);
  const auto actual = epoch_of(*loader(dataset, true, 0, false), 1);
  expect_same_samples(expected, actual);
  for (std::size_t i = 0; i < expected.size(); ++i) {
    // Each is within 1 of the formula in float64 (DeviceArithmetic, resize_test).
    EXPECT_LE(testing::max_difference(expected[i].images, actual[i].images), 2) << "batch " << i;
  }
}

TEST_F(GpuLoader, DecodedPixelsAreNearTheCpus) {
  const auto dataset = dataset_of(230, {4, 77});
  const auto expected = epoch_of(*loader(dataset, false, 0, false), 1);
  const auto actual = epoch_of(*loader(dataset, true, 1, false), 1);
  expect_same_samples(expected, actual);
  for (std::size_t i = 0; i < expected.size(); ++i) {
    // Two inverse cosine transforms (up to 3 levels without decoder engines), then two resizes, which overshoot.
    const at::Tensor difference = (expected[i].images.to(at::kFloat) - actual[i].images.to(at::kFloat)).abs();
    EXPECT_LE(difference.mean().item<double>(), 0.3) << "batch " << i;
    EXPECT_LE(difference.max().item<double>(), 6.0) << "batch " << i;
  }
}

TEST_F(GpuLoader, ASampleDependsOnItsPlaceAlone) {
  const auto dataset = dataset_of(330, {4, 77});
  for (const double share : {0.5, 1.0}) {
    const auto expected = epoch_of(*loader(dataset, true, share, true, 1), 2);
    const auto again = loader(dataset, true, share, true, 6);
    epoch_of(*again, 1);
    for (const int64_t first : {0, 2}) {
      const auto actual = epoch_of(*again, 2, first);
      const std::vector<Batch> rest(expected.begin() + first, expected.end());
      expect_same_samples(rest, actual);
      for (std::size_t i = 0; i < rest.size(); ++i) EXPECT_TRUE(rest[i].images.equal(actual[i].images)) << i;
    }
  }
}

TEST_F(GpuLoader, DamagedDataHarmsNoOtherImage) {
  const std::vector<int64_t> damaged{3, 50, 51, 200};
  const auto dataset = dataset_of(230, {}, damaged);
  const auto expected = epoch_of(*loader(dataset, false, 0, false), 0);
  const auto actual = epoch_of(*loader(dataset, true, 1, false), 0);
  ASSERT_EQ(expected.size(), actual.size());
  int64_t compared = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const at::Tensor difference = (expected[i].images.to(at::kFloat) - actual[i].images.to(at::kFloat)).abs();
    for (std::size_t row = 0; row < expected[i].indices.size(); ++row) {
      if (std::ranges::find(damaged, expected[i].indices[row]) != damaged.end()) continue;
      EXPECT_LE(difference[static_cast<int64_t>(row)].mean().item<double>(), 1.5) << expected[i].names[row];
      ++compared;
    }
  }
  EXPECT_GE(compared, 220);
}

TEST_F(GpuLoader, BatchesStayWhatTheyAreWhileTheyAreUsed) {
  const auto dataset = dataset_of(400);
  const auto expected = epoch_of(*loader(dataset, true, 1, true), 0);
  // Nothing waits for the device here: each batch's sum is queued, and its memory goes back at once.
  const auto queued = loader(dataset, true, 1, true);
  std::vector<at::Tensor> sums;
  for (int repeat = 0; repeat < 5; ++repeat) {
    queued->start_epoch(0);
    while (const auto batch = queued->next()) {
      at::Tensor values = batch->images.to(at::kDouble);
      for (int k = 0; k < 50; ++k) values = values.sin().add(batch->images);
      sums.push_back((values - values + batch->images).sum());
    }
  }
  for (std::size_t i = 0; i < sums.size(); ++i) {
    EXPECT_EQ(sums[i].item<double>(), expected[i % expected.size()].images.to(at::kDouble).sum().item<double>()) << i;
  }
}

TEST_F(GpuLoader, StopsCleanlyAtAnyMoment) {
  const auto dataset = dataset_of(300);
  for (int trial = 0; trial < 10; ++trial) {
    const auto started = loader(dataset, true, trial % 2, true, 1 + trial % 4);
    started->start_epoch(0);
    for (int i = 0; i < trial % 4; ++i) started->next();
    if (trial % 3 == 0) started->start_epoch(1, 1);
  }
}

#endif

}  // namespace
}  // namespace vrwkv::data

#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "data/image_source.h"
#include "data/jpeg_codec.h"
#include "data/jpeg_restarts.h"
#include "data/transforms.h"
#include "tests/data/stored_jpeg.h"

namespace vrwkv::data {
namespace {

using testing::Bytes;
using testing::encoded;
using testing::fixture;
using testing::max_difference;
using testing::picture;
using testing::random_box;
using testing::Stored;

/// The largest box of whole squares of `reduction` pixels.
Box whole_squares(int64_t height, int64_t width, int64_t reduction) {
  return {0, 0, height / reduction * reduction, width / reduction * reduction};
}

TEST(ReducedDecode, GivesThePixelsOfPillowsDraftMode) {
  for (const std::string name : {"rgb_420", "rgb_422", "rgb_444", "grey", "cmyk", "progressive", "restart_grid"}) {
    const Bytes bytes = *read_file_bytes(fixture(name + ".jpg"));
    const Box size = jpeg_size(bytes, kMaxImagePixels);
    for (const int64_t reduction : {2, 4, 8}) {
      const at::Tensor expected = testing::read_ppm(fixture(name + "_reduced_" + std::to_string(reduction) + ".ppm"));
      const Box box = whole_squares(size.height, size.width, reduction);
      const at::Tensor part = decode_jpeg_part(bytes, box, reduction);
      EXPECT_LE(max_difference(part, crop(expected, 0, 0, box.height / reduction, box.width / reduction)), 1)
          << name << " at 1/" << reduction;
    }
  }
}

class ReducedDecodeOf : public ::testing::TestWithParam<Stored> {};

TEST_P(ReducedDecodeOf, HasThePixelsOfTheWholeReducedImage) {
  Generator generator(3, 0, 0, RandomStream::transform);
  for (const auto& [height, width] : {std::pair<int64_t, int64_t>{96, 128}, {203, 157}, {64, 333}, {375, 500}}) {
    const Bytes original = encoded(picture(height, width, static_cast<std::uint64_t>(width)), GetParam());
    const auto restarts = with_restarts(original);
    for (const int64_t reduction : {2, 4, 8}) {
      const at::Tensor whole = decode_jpeg_part(original, whole_squares(height, width, reduction), reduction);
      for (int trial = 0; trial < 40; ++trial) {
        const Box small = random_box(whole.size(0), whole.size(1), generator);
        const Box box{small.top * reduction, small.left * reduction, small.height * reduction, small.width * reduction};
        const at::Tensor expected = crop(whole, small.top, small.left, small.height, small.width);
        ASSERT_TRUE(decode_jpeg_part(original, box, reduction).equal(expected)) << "1/" << reduction;
        if (restarts) {
          ASSERT_TRUE(decode_jpeg_part(*restarts, box, reduction).equal(expected)) << "1/" << reduction;
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Stored, ReducedDecodeOf,
                         ::testing::Values(Stored{"full_colours", 1, 1, 3}, Stored{"half_across", 2, 1, 3},
                                           Stored{"half_both", 2, 2, 3}, Stored{"half_down", 1, 2, 3},
                                           Stored{"grey", 1, 1, 1}, Stored{"progressive", 2, 2, 3, true}),
                         [](const auto& tested) { return std::string(tested.param.name); });

TEST(ReducedDecode, RefusesWhatItCannotDo) {
  const Bytes bytes = encoded(picture(64, 64, 1), {"", 2, 2, 3});
  EXPECT_THROW(decode_jpeg_part(bytes, {0, 0, 60, 64}, 8), std::invalid_argument);
  EXPECT_THROW(decode_jpeg_part(bytes, {0, 0, 48, 48}, 3), std::invalid_argument);
  EXPECT_THROW(ImageSource(picture(64, 64, 1)).part({0, 0, 64, 64}, 2), std::invalid_argument);
}

TEST(ReduceView, KeepsThePixelsThatTheResultNeeds) {
  Generator generator(5, 0, 0, RandomStream::transform);
  for (int trial = 0; trial < 5000; ++trial) {
    const int64_t height = 1 + generator.integer(900), width = 1 + generator.integer(900);
    const int64_t size = 1 + generator.integer(120);
    TrainView view;
    view.box = random_box(height, width, generator);
    const Box drawn = view.box;
    reduce_view(view, height, width, size);
    const int64_t unit = view.reduction, side = std::min(drawn.height, drawn.width);
    if (unit == 1) {
      EXPECT_LT(side, 2 * size);
      EXPECT_EQ(view.box, drawn);
      continue;
    }
    EXPECT_GE(side, unit * size);
    EXPECT_TRUE(unit == 8 || side < 2 * unit * size);
    const Box& box = view.box;
    for (const int64_t pixels : {box.top, box.left, box.height, box.width}) EXPECT_EQ(pixels % unit, 0);
    EXPECT_GE(std::min(box.height, box.width) / unit, size);
    EXPECT_GE(std::min(box.top, box.left), 0);
    EXPECT_LE(box.top + box.height, height);
    EXPECT_LE(box.left + box.width, width);
    // The lower and right edges of an image may end within a square.
    EXPECT_LT(2 * std::abs(box.top - drawn.top), 3 * unit);
    EXPECT_LT(2 * std::abs(box.left - drawn.left), 3 * unit);
    EXPECT_LE(std::abs(box.height - drawn.height), unit);
    EXPECT_LE(std::abs(box.width - drawn.width), unit);
  }
}

/// Mean and largest difference in grey levels of training views with and without reduction, of the same parts.
struct Difference {
  double mean = 0;
  int64_t largest = 0;
  int reduced = 0;
};

Difference difference_of_views(const Bytes& bytes, int64_t size, int views) {
  TrainTransformOptions options;
  options.size = size;
  options.scale = {0.4, 1.0};
  Difference result;
  const ImageSource image(bytes);
  for (int i = 0; i < views; ++i) {
    Generator generator(9, 0, static_cast<std::uint64_t>(i), RandomStream::transform);
    const TrainView view = draw_train_view(image, options, generator);
    if (view.reduction == 1) continue;
    const at::Tensor reduced = make_train_view(view_pixels(image, view, options), view, size);
    const at::Tensor exact = make_train_view(image.part(view.box), view, size);
    result.mean += (reduced.to(at::kDouble) - exact.to(at::kDouble)).abs().mean().item<double>();
    result.largest = std::max(result.largest, max_difference(reduced, exact));
    ++result.reduced;
  }
  result.mean /= std::max(1, result.reduced);
  return result;
}

TEST(ReducedDecode, StaysNearTheExactViewOfSmoothPictures) {
  const at::Tensor smooth = resize(testing::random_image(24, 32, 4), 375, 500);
  const Difference found = difference_of_views(encoded(smooth, {"", 2, 2, 3}), 64, 30);
  EXPECT_GT(found.reduced, 20);
  EXPECT_LE(found.mean, 1.0);
  EXPECT_LE(found.largest, 24);
}

TEST(ReducedDecode, StaysNearTheExactViewOfPhotographs) {
  const std::filesystem::path folder = testing::shared_data("imagenet-sample");
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << folder << " is not there";
  Difference all;
  int images = 0;
  for (const auto& file : std::filesystem::recursive_directory_iterator(folder)) {
    if (!file.is_regular_file() || images == 40) continue;
    const Bytes bytes = *read_file_bytes(file.path());
    if (!is_jpeg(bytes)) continue;
    const Difference found = difference_of_views(bytes, 96, 4);
    if (found.reduced == 0) continue;
    ++images;
    all.mean += found.mean;
    all.largest = std::max(all.largest, found.largest);
  }
  ASSERT_GT(images, 10);
  EXPECT_LE(all.mean / images, 1.5);
  EXPECT_LE(all.largest, 60);
}

}  // namespace
}  // namespace vrwkv::data

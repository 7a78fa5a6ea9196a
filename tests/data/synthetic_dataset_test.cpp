#include "data/synthetic_dataset.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <stdexcept>

#include "data/image_codec.h"

namespace vrwkv::data {
namespace {

std::shared_ptr<const Dataset> synthetic(int64_t images, int64_t classes, int64_t size, int64_t seed) {
  return open_dataset({.path = "",
                       .format = DatasetFormat::synthetic,
                       .list = "",
                       .synthetic = {.images = images, .classes = classes, .size = size, .seed = seed}});
}

at::Tensor image_of(const Dataset& dataset, int64_t index) { return decode_image(dataset.get(index).bytes); }

/// Mean absolute difference in grey levels.
double difference(const at::Tensor& a, const at::Tensor& b) {
  return (a.to(at::kDouble) - b.to(at::kDouble)).abs().mean().item<double>();
}

TEST(SyntheticDataset, HasTheAskedForSizeAndLabels) {
  const auto dataset = synthetic(7, 3, 21, 0);
  EXPECT_EQ(dataset->size(), 7);
  EXPECT_EQ(dataset->classes(), (std::vector<std::string>{"0", "1", "2"}));
  EXPECT_FALSE(dataset->has_class_names());
  for (int64_t i = 0; i < 7; ++i) {
    EXPECT_EQ(dataset->label(i), i % 3);
    EXPECT_EQ(dataset->get(i).label, i % 3);
    EXPECT_EQ(image_of(*dataset, i).sizes(), (at::IntArrayRef{21, 21, 3}));
  }
  EXPECT_EQ(dataset->get(6).name, "synthetic image 6");
  EXPECT_THROW(dataset->get(7), std::out_of_range);
  EXPECT_THROW(dataset->label(-1), std::out_of_range);
  EXPECT_EQ(image_of(*synthetic(1, 1, 1, 0), 0).sizes(), (at::IntArrayRef{1, 1, 3}));
}

TEST(SyntheticDataset, IsTheSameEachTimeAndAnotherForEachSeed) {
  const auto first = synthetic(8, 4, 32, 5), again = synthetic(100, 4, 32, 5), other = synthetic(8, 4, 32, 6);
  for (int64_t i = 0; i < 8; ++i) {
    EXPECT_TRUE(at::equal(image_of(*first, i), image_of(*again, i))) << i;
    EXPECT_FALSE(at::equal(image_of(*first, i), image_of(*other, i))) << i;
  }
}

// Two noises of standard deviation 16 differ by 16 * 2 / sqrt(pi) = 18 on average, two uniform colours by 85.
TEST(SyntheticDataset, ImagesOfAClassAreAlikeWhateverTheSeed) {
  const auto train = synthetic(40, 10, 16, 0), val = synthetic(40, 10, 16, 1);
  for (int64_t i = 0; i < 10; ++i) {
    EXPECT_LT(difference(image_of(*train, i), image_of(*train, i + 10)), 30) << i;
    EXPECT_LT(difference(image_of(*train, i), image_of(*val, i + 20)), 30) << i;
    EXPECT_GT(difference(image_of(*train, i), image_of(*train, (i + 1) % 10)), 45) << i;
  }
}

// 4 x 4 tiles of one colour each.
TEST(SyntheticDataset, ConsistsOfTiles) {
  const at::Tensor tiles = image_of(*synthetic(1, 1, 4, 0), 0), image = image_of(*synthetic(1, 1, 12, 0), 0);
  EXPECT_TRUE(at::equal(image, tiles.repeat_interleave(3, 0).repeat_interleave(3, 1)));
}

}  // namespace
}  // namespace vrwkv::data

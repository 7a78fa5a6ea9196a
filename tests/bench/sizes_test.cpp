#include "bench/sizes.h"

#include <gtest/gtest.h>

#include "common/errors.h"

namespace vrwkv::bench {
namespace {

template <typename F>
std::string message_of(const F& parse) {
  try {
    parse();
  } catch (const UsageError& error) {
    return error.what();
  }
  return "no UsageError";
}

TEST(OpSizes, AreReadInOrder) {
  const std::vector<OpSize> expected{{128, 196, 192}, {1, 16384, 7}};
  EXPECT_EQ(parse_op_sizes({"128,196,192", "1,16384,7"}), expected);
  EXPECT_EQ(expected[0].text(), "128,196,192");
}

TEST(OpSizes, ErrorsSayWhatWasExpectedAndWhatCame) {
  for (const std::string text : {"1,2", "1,2,3,4", "", ",,", "1,2,", "1,2,0", "1,2,-3", "1,2,x", "1, 2,3", "1x2x3",
                                 "1,2,3.0", "1,2,99999999999999999999"}) {
    const std::string message = message_of([&] { parse_op_sizes({"8,9,4", text}); });
    EXPECT_NE(message.find("--sizes: expected B,T,C"), std::string::npos) << message;
    EXPECT_NE(message.find("got '" + text + "'"), std::string::npos) << message;
  }
  const std::string huge = message_of([] { parse_op_sizes({"2000000000,2000000000,2000000000"}); });
  EXPECT_NE(huge.find("at most 1e15 elements"), std::string::npos) << huge;
}

TEST(ImageSizes, AreReadFromListsAndSeveralArguments) {
  EXPECT_EQ(parse_image_sizes({"224,1024", "32"}, 16), (std::vector<int64_t>{224, 1024, 32}));
}

TEST(ImageSizes, ErrorsSayWhatWasExpectedAndWhatCame) {
  for (const std::string text : {"225", "0", "", "-16", "x", "1e3", "65536"}) {
    const std::string message = message_of([&] { parse_image_sizes({"224," + text}, 16); });
    EXPECT_NE(message.find("multiples of the patch size 16"), std::string::npos) << message;
    EXPECT_NE(message.find("got '" + text + "'"), std::string::npos) << message;
  }
}

TEST(DefaultBatch, ShrinksWithTheImagesAsPublished) {
  const at::Device gpu(at::kCUDA, 0);
  EXPECT_EQ(default_batch("tiny", 224, gpu), 256);
  EXPECT_EQ(default_batch("small", 224, gpu), 256);
  EXPECT_EQ(default_batch("base", 224, gpu), 128);
  EXPECT_EQ(default_batch("large", 224, gpu), 32);
  EXPECT_EQ(default_batch("tiny", 1024, gpu), 8);
  EXPECT_EQ(default_batch("tiny", 2048, gpu), 2);
  EXPECT_EQ(default_batch("large", 2048, gpu), 1);
  EXPECT_EQ(default_batch("tiny", 32, gpu), 256);
  EXPECT_EQ(default_batch("tiny", 224, at::kCPU), 8);
}

}  // namespace
}  // namespace vrwkv::bench

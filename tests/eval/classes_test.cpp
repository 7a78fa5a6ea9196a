#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <set>

#include "common/errors.h"
#include "eval/check_classes.h"
#include "eval/class_names.h"
#include "tests/eval/memory_dataset.h"

namespace vrwkv::eval {
namespace {

using Names = std::vector<std::string>;

ModelWeights head_of(int64_t classes, Names names = {}) {
  return {{{"head.fc.weight", at::zeros({classes, 4})}, {"head.fc.bias", at::zeros({classes})}}, std::move(names)};
}

/// The UsageError's message, or "fine".
template <class Call>
std::string message_of(const Call& call) {
  try {
    call();
    return "fine";
  } catch (const UsageError& error) {
    return error.what();
  }
}

std::string check(const Names& data, int64_t configured, const ModelWeights* checkpoint, bool named = true) {
  const MemoryDataset dataset({}, data, named);
  config::RunConfig config;
  config.model.num_classes = configured;
  return message_of([&] { check_classes(dataset, "data.val", config, checkpoint); });
}

TEST(HeadClasses, OfBothHeads) {
  EXPECT_EQ(head_classes(head_of(7)), 7);
  EXPECT_EQ(head_classes({{{"head.0.weight", at::zeros({12, 4})}, {"head.2.weight", at::zeros({9, 12})}}, {}}), 9);
  EXPECT_EQ(head_classes({}), 0);
}

TEST(CheckClasses, EqualCountsPass) {
  const ModelWeights weights = head_of(3, {"a", "b", "c"});
  EXPECT_EQ(check({"a", "b", "c"}, 3, &weights), "fine");
  EXPECT_EQ(check({"a", "b", "c"}, 3, nullptr), "fine");
}

TEST(CheckClasses, EveryPairOfCountsThatDiffersIsRefusedWithAllThree) {
  const Names names{"a", "b", "c", "d"};
  for (int64_t data = 2; data <= 4; ++data) {
    for (int64_t configured = 2; configured <= 4; ++configured) {
      for (int64_t head = 2; head <= 4; ++head) {
        const ModelWeights weights = head_of(head);
        const std::string message = check({names.begin(), names.begin() + data}, configured, &weights);
        if (data == configured && configured == head) {
          EXPECT_EQ(message, "fine");
          continue;
        }
        EXPECT_NE(message.find("data.val has " + std::to_string(data) + " classes"), std::string::npos) << message;
        EXPECT_NE(message.find("configuration " + std::to_string(configured)), std::string::npos) << message;
        EXPECT_NE(message.find("head " + std::to_string(head)), std::string::npos) << message;
      }
    }
  }
}

TEST(CheckClasses, NumberedDataMayHaveFewerButNotMore) {
  const ModelWeights weights = head_of(3, {"a", "b", "c"});
  EXPECT_EQ(check({"0", "1"}, 3, &weights, false), "fine");
  EXPECT_NE(check({"0", "1", "2", "3"}, 3, &weights, false).find("data.val has 4 classes"), std::string::npos);
}

TEST(CheckClasses, TheFirstNamesThatDifferAreNamed) {
  const ModelWeights weights = head_of(3, {"cat", "dog", "fox"});
  const std::string message = check({"cat", "cow", "elk"}, 3, &weights);
  EXPECT_NE(message.find("class 1 of data.val is 'cow'"), std::string::npos) << message;
  EXPECT_NE(message.find("'dog'"), std::string::npos) << message;
  EXPECT_EQ(message.find("elk"), std::string::npos) << message;
}

TEST(CheckClasses, NumbersInTheCheckpointAreNoNames) {
  const ModelWeights weights = head_of(2, {"0", "1"});
  EXPECT_EQ(check({"cat", "dog"}, 2, &weights), "fine");
}

TEST(CheckHead, ComparesWithTheConfiguration) {
  config::RunConfig config;
  config.model.num_classes = 5;
  EXPECT_EQ(message_of([&] { check_head(config, head_of(5)); }), "fine");
  EXPECT_EQ(message_of([&] { check_head(config, {}); }), "fine");
  const std::string message = message_of([&] { check_head(config, head_of(6)); });
  EXPECT_NE(message.find("configuration has 5"), std::string::npos) << message;
  EXPECT_NE(message.find("head 6"), std::string::npos) << message;
}

class ClassNames : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "vrwkv_names_XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string write(const std::string& text) const {
    const std::filesystem::path file = folder_ / "names.txt";
    std::ofstream(file, std::ios::binary) << text;
    return file.string();
  }

  std::filesystem::path folder_;
};

TEST_F(ClassNames, FileThenCheckpointThenNumbers) {
  const std::string file = write("tabby cat\r\ndog\n\n");
  EXPECT_EQ(class_names(2, file, {"x", "y"}), (Names{"tabby cat", "dog"}));
  EXPECT_EQ(class_names(2, write("a\nb"), {}), (Names{"a", "b"}));
  EXPECT_EQ(class_names(2, "", {"x", "y"}), (Names{"x", "y"}));
  EXPECT_EQ(class_names(2, "", {}), (Names{"class 0", "class 1"}));
  const Names imagenet = class_names(1000, "", {});
  EXPECT_EQ(imagenet[0], "tench");
  EXPECT_EQ(imagenet[285], "Egyptian cat");
  EXPECT_EQ(imagenet[999], "toilet tissue");
  EXPECT_EQ(std::set<std::string>(imagenet.begin(), imagenet.end()).size(), 1000U);
}

TEST_F(ClassNames, AnotherNumberOfNamesIsRefused) {
  const std::string file = write("a\nb\nc\n");
  EXPECT_NE(message_of([&] { class_names(2, file, {}); }).find("names.txt has 3 class names, the model 2"),
            std::string::npos);
  EXPECT_NE(message_of([&] { class_names(2, write(""), {}); }).find("0 class names"), std::string::npos);
  EXPECT_NE(message_of([&] { class_names(3, "", {"x"}); }).find("the checkpoint has 1"), std::string::npos);
  EXPECT_NE(message_of([&] { class_names(3, "/no/such/file", {}); }).find("/no/such/file cannot be read"),
            std::string::npos);
}

}  // namespace
}  // namespace vrwkv::eval

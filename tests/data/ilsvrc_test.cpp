#include <gtest/gtest.h>

#include "common/errors.h"
#include "data/ground_truth.h"
#include "tests/data/test_data.h"

/// ImageNet's own archives, made up in small.
namespace vrwkv::data {
namespace {

using testing::Bytes;
using testing::bytes_of;
using testing::message_of;
using testing::open_path;
using testing::TarContent;
using testing::TempFolder;
using testing::write_tar;

#define EXPECT_CONTAINS(text, part) EXPECT_NE((text).find(part), std::string::npos) << (text)

std::string text_of(const EncodedSample& sample) { return {sample.bytes.begin(), sample.bytes.end()}; }

Bytes tar_of(const TempFolder& folder, const TarContent& content) {
  write_tar(folder.path() / "inner", content);
  return *read_file_bytes(folder.path() / "inner");
}

TEST(Ilsvrc, TrainIsATarOfTars) {
  const TempFolder folder;
  const auto path = folder.path() / "ILSVRC2012_img_train.tar";
  write_tar(path, {{"n02.tar", tar_of(folder, {{"n02_9.JPEG", bytes_of("nine")}, {"n02_10.JPEG", Bytes(5000, 7)}})},
                   {"deep/n01.tar", tar_of(folder, {{"n01_1.JPEG", bytes_of("one")}})}});
  EXPECT_CONTAINS(message_of<UsageError>([&] { open_path(path); }), "lie at different depths");
  write_tar(path, {{"n02.tar", tar_of(folder, {{"n02_9.JPEG", bytes_of("nine")}, {"n02_10.JPEG", Bytes(5000, 7)}})},
                   {"n01.tar", tar_of(folder, {{"n01_1.JPEG", bytes_of("one")}})}});
  const auto dataset = open_path(path);
  ASSERT_EQ(dataset->size(), 3);
  EXPECT_EQ(dataset->classes(), (std::vector<std::string>{"n01", "n02"}));
  EXPECT_EQ(text_of(dataset->get(0)), "nine");
  EXPECT_EQ(text_of(dataset->get(1)), std::string(5000, 7));
  EXPECT_EQ(text_of(dataset->get(2)), "one");
  EXPECT_EQ(dataset->label(0), 1);
  EXPECT_EQ(dataset->label(2), 0);
  EXPECT_EQ(dataset->get(2).name, path.string() + ":n01/n01_1.JPEG");
}

TEST(Ilsvrc, NamesTheInnerTarThatIsDamaged) {
  const TempFolder folder;
  Bytes inner = tar_of(folder, {{"n01_1.JPEG", Bytes(3000, 1)}});
  inner.resize(2000);
  write_tar(folder.path() / "train.tar", {{"n01.tar", inner}});
  EXPECT_CONTAINS(message_of<UsageError>([&] { open_path(folder.path() / "train.tar"); }), "train.tar:n01.tar");
}

class IlsvrcVal : public ::testing::Test {
 protected:
  IlsvrcVal() {
    // Not in the order of their names, as in the real archive.
    write_tar(folder_.path() / "val.tar", {{"ILSVRC2012_val_00000003.JPEG", bytes_of("three")},
                                           {"ILSVRC2012_val_00000001.JPEG", bytes_of("one")},
                                           {"ILSVRC2012_val_00000004.JPEG", bytes_of("four")},
                                           {"ILSVRC2012_val_00000002.JPEG", bytes_of("two")}});
  }

  DatasetOptions options(const std::string& truth, const std::string& synsets) const {
    DatasetOptions result;
    result.path = (folder_.path() / "val.tar").string();
    result.ground_truth = folder_.write("truth.txt", bytes_of(truth)).string();
    result.synsets = folder_.write("synsets.txt", bytes_of(synsets)).string();
    result.index_cache = "off";
    return result;
  }
  std::string error(const std::string& truth, const std::string& synsets) const {
    return message_of<UsageError>([&] { open_dataset(options(truth, synsets)); });
  }

  TempFolder folder_;
};

TEST_F(IlsvrcVal, IdsAreOfIlsvrcsOrder) {
  const auto dataset = open_dataset(options("3\n1\r\n2\n1\n", "n05 kit fox\nn09, lion\n\nn01\n"));
  ASSERT_EQ(dataset->size(), 4);
  EXPECT_EQ(dataset->classes(), (std::vector<std::string>{"n01", "n05", "n09"}));
  EXPECT_TRUE(dataset->has_class_names());
  const std::vector<std::pair<std::string, int64_t>> expected{{"one", 0}, {"two", 1}, {"three", 2}, {"four", 1}};
  for (int64_t i = 0; i < 4; ++i) {
    EXPECT_EQ(text_of(dataset->get(i)), expected[static_cast<std::size_t>(i)].first);
    EXPECT_EQ(dataset->label(i), expected[static_cast<std::size_t>(i)].second);
  }
}

TEST_F(IlsvrcVal, SaysWhatDoesNotFit) {
  EXPECT_CONTAINS(error("1\n2\n1\n", "a\nb\n"), "has 3 labels, but");
  EXPECT_CONTAINS(error("1\n2\n1\n", "a\nb\n"), "has 4 images");
  EXPECT_CONTAINS(error("1\n\n3\n1\n1\n", "a\nb\n"), "truth.txt:3: expected a class as a number 1 … 2");
  EXPECT_CONTAINS(error("0\n", "a\nb\n"), "truth.txt:1");
  EXPECT_CONTAINS(error("x\n", "a\nb\n"), "got 'x'");
  EXPECT_CONTAINS(error("1\n1\n1\n1\n", "a\nb\n"), "names 'b' as class 2, which no image");
  EXPECT_CONTAINS(error("1\n", "a\nb\na\n"), "synsets.txt:3: 'a' is there twice");
  EXPECT_CONTAINS(error("", "a\n"), "truth.txt' is empty");
  EXPECT_CONTAINS(error("1\n", ""), "synsets.txt' is empty");
  DatasetOptions one = options("1\n", "a\n");
  one.synsets.clear();
  EXPECT_CONTAINS(message_of<UsageError>([&] { open_dataset(one); }), "belong together");
  one.synsets = "/nowhere";
  EXPECT_CONTAINS(message_of<UsageError>([&] { open_dataset(one); }), "'/nowhere' cannot be opened");
  folder_.write("set/a/1.jpg", {});
  one.path = (folder_.path() / "set").string();
  EXPECT_CONTAINS(message_of<UsageError>([&] { open_dataset(one); }), "only used with a tar");
}

TEST(Tars, SeveralFormOneSet) {
  const TempFolder folder;
  write_tar(folder.path() / "x-1.tar", {{"b/1.jpg", bytes_of("1")}, {"a/2.jpg", bytes_of("2")}});
  write_tar(folder.path() / "x-2.tar", {{"c/1.jpg", bytes_of("3")}});
  folder.write("notes.txt", {});
  for (const std::string& path : {folder.path().string(), folder.path().string() + "/x-*.tar",
                                  folder.path().string() + "/x-[12].tar", folder.path().string() + "/x-?.tar"}) {
    const auto dataset = open_path(path);
    ASSERT_EQ(dataset->size(), 3) << path;
    EXPECT_EQ(dataset->classes(), (std::vector<std::string>{"a", "b", "c"}));
    EXPECT_EQ(text_of(dataset->get(2)), "3");
    EXPECT_EQ(dataset->label(0), 1);
    EXPECT_EQ(dataset->label(2), 2);
  }
  EXPECT_CONTAINS(message_of<UsageError>([&] { open_path(folder.path() / "y*.tar"); }), "does not exist");
  // Tars beside class folders: those are the set.
  folder.write("d/1.jpg", {});
  EXPECT_EQ(open_path(folder.path())->classes(), (std::vector<std::string>{"d"}));
}

TEST(Tars, KeysArePairedWithinAnArchive) {
  const TempFolder folder;
  write_tar(folder.path() / "1.tar", {{"k.jpg", bytes_of("1")}, {"k.cls", bytes_of("4")}});
  write_tar(folder.path() / "2.tar", {{"k.jpg", bytes_of("2")}, {"k.cls", bytes_of("2")}});
  const auto dataset = open_path(folder.path());
  EXPECT_EQ(dataset->label(0), 4);
  EXPECT_EQ(dataset->label(1), 2);
  write_tar(folder.path() / "2.tar", {{"k.jpg", bytes_of("2")}});
  EXPECT_CONTAINS(message_of<UsageError>([&] { open_path(folder.path()); }), "2.tar': mixed layouts");
}

}  // namespace
}  // namespace vrwkv::data

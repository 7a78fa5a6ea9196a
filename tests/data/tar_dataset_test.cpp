#include "data/tar_dataset.h"

#include <gtest/gtest.h>

#include "common/errors.h"
#include "tests/data/test_data.h"

namespace vrwkv::data {
namespace {

using testing::Bytes;
using testing::bytes_of;
using testing::open_path;
using testing::TarContent;
using testing::TempFolder;
using testing::write_tar;

std::string text_of(const EncodedSample& sample) { return {sample.bytes.begin(), sample.bytes.end()}; }

std::string open_error(const std::filesystem::path& path) {
  return testing::message_of<UsageError>([&] { open_path(path); });
}

std::string content_error(const TarContent& content) {
  const TempFolder folder;
  write_tar(folder.path() / "set.tar", content);
  return open_error(folder.path() / "set.tar");
}

#define EXPECT_CONTAINS(text, part) EXPECT_NE((text).find(part), std::string::npos) << (text)

class TarFormat : public ::testing::TestWithParam<const char*> {};

TEST_P(TarFormat, ClassIsTheParentFolder) {
  const TempFolder folder;
  const std::string deep = "train/" + std::string(90, 'x') + "/" + std::string(120, 'y') + ".jpg";
  const std::string foreign = "train/\xc3\xa4pfel/\xe4\xb8\xad.jpg";  // UTF-8
  const auto path = folder.path() / "set.tar";
  TarContent content{{"train/dog/2.PNG", bytes_of("dog 2")},
                     {"train/cat/1.jpg", Bytes(70'000, 7)},
                     {"train/cat/._1.jpg", bytes_of("macOS")},
                     {"train/readme.txt", bytes_of("text")},
                     {"./train/dog/1.jpeg", {}},
                     {foreign, bytes_of("foreign")}};
  if (GetParam() != std::string("ustar")) {
    content.emplace_back(deep, bytes_of("deep"));
  }
  write_tar(path, content, GetParam());
  const auto dataset = open_path(path);
  std::vector<std::string> classes{"cat", "dog", "\xc3\xa4pfel"};
  if (GetParam() != std::string("ustar")) {
    classes.insert(classes.begin() + 2, std::string(90, 'x'));
    EXPECT_EQ(text_of(dataset->get(4)), "deep");
    EXPECT_EQ(dataset->get(4).name, path.string() + ":" + deep);
    EXPECT_EQ(dataset->label(4), 2);
  }
  EXPECT_EQ(dataset->classes(), classes);
  EXPECT_EQ(dataset->size(), static_cast<int64_t>(classes.size()) + 1);
  EXPECT_EQ(text_of(dataset->get(0)), "dog 2");
  EXPECT_EQ(dataset->label(0), 1);
  EXPECT_EQ(text_of(dataset->get(1)), std::string(70'000, 7));
  EXPECT_EQ(dataset->get(1).label, 0);
  EXPECT_EQ(dataset->get(2).bytes.size(), 0U);
  EXPECT_EQ(dataset->get(2).name, path.string() + ":train/dog/1.jpeg");
  EXPECT_EQ(text_of(dataset->get(3)), "foreign");
  EXPECT_EQ(dataset->get(3).name, path.string() + ":" + foreign);
  EXPECT_THROW(dataset->get(100), std::out_of_range);
}

INSTANTIATE_TEST_SUITE_P(Formats, TarFormat, ::testing::Values("ustar", "pax", "gnutar"));

TEST(TarDataset, SamplesOutliveTheDataset) {
  const TempFolder folder;
  write_tar(folder.path() / "set.tar", {{"a/1.jpg", bytes_of("pixels")}});
  const EncodedSample sample = open_path((folder.path() / "set.tar"))->get(0);
  EXPECT_EQ(text_of(sample), "pixels");
}

TEST(TarDataset, ReadsWebDatasetPairs) {
  const TempFolder folder;
  write_tar(folder.path() / "set.tar", {{"000/a.jpg", bytes_of("A")},
                                        {"000/a.cls", bytes_of("12")},
                                        {"000/a.json", bytes_of("{}")},
                                        {"b.cls", bytes_of(" 3\n")},
                                        {"b.png", bytes_of("B")}});
  const auto dataset = open_path((folder.path() / "set.tar"));
  ASSERT_EQ(dataset->size(), 2);
  EXPECT_EQ(text_of(dataset->get(0)), "A");
  EXPECT_EQ(dataset->label(0), 12);
  EXPECT_EQ(dataset->get(1).label, 3);
  EXPECT_EQ(dataset->classes().size(), 13U);
  EXPECT_FALSE(dataset->has_class_names());
}

TEST(TarDataset, SaysWhatIsWrongWithTheContent) {
  EXPECT_CONTAINS(content_error({{"a/readme.txt", bytes_of("x")}}), "holds no .jpg, .jpeg or .png image");
  EXPECT_CONTAINS(content_error({}), "holds no .jpg, .jpeg or .png image");
  EXPECT_CONTAINS(content_error({{"1.jpg", bytes_of("x")}}), "'1.jpg' lies in no class folder");
  EXPECT_CONTAINS(content_error({{"a/1.jpg", bytes_of("x")}, {"a/b/2.jpg", bytes_of("x")}}),
                  "mixed layouts: 'a/1.jpg' and 'a/b/2.jpg'");
  EXPECT_CONTAINS(content_error({{"a.jpg", {}}, {"a.cls", bytes_of("1")}, {"b.jpg", {}}}), "none for 'b.jpg'");
  EXPECT_CONTAINS(content_error({{"a.jpg", {}}, {"a.cls", bytes_of("1")}, {"b.cls", bytes_of("1")}}),
                  "'b.cls' has no image");
  EXPECT_CONTAINS(content_error({{"a.jpg", {}}, {"a.png", {}}, {"a.cls", bytes_of("1")}}), "share the key 'a'");
  EXPECT_CONTAINS(content_error({{"a.jpg", {}}, {"a.cls", bytes_of("1")}, {"a.cls", bytes_of("2")}}), "there twice");
  EXPECT_CONTAINS(content_error({{"a.jpg", {}}, {"a.cls", bytes_of("cat")}}), "'a.cls' must hold a label");
}

TEST(TarDataset, RefusesCompressedTars) {
  const TempFolder folder;
  for (const auto& [filter, name] :
       {std::pair{"gzip", "gzip"}, {"bzip2", "bzip2"}, {"xz", "xz"}, {"zstd", "zstd"}, {"lz4", "lz4"}}) {
    const auto path = folder.path() / (std::string("set.tar.") + filter);
    write_tar(path, {{"a/1.jpg", bytes_of("x")}}, "ustar", filter);
    EXPECT_CONTAINS(open_error(path), std::string("compressed with ") + name);
  }
}

TEST(TarDataset, RefusesOtherFiles) {
  const TempFolder folder;
  EXPECT_CONTAINS(open_error(folder.write("empty.tar", {})), "0 bytes");
  EXPECT_CONTAINS(open_error(folder.write("text.tar", bytes_of(std::string(3000, 'x')))), "not a tar file");
  EXPECT_CONTAINS(open_error(folder.write("short.tar", bytes_of("hello"))), "not a tar file");
}

TEST(TarDataset, AnyTruncationIsAnError) {
  const TempFolder folder;
  const auto path = folder.path() / "set.tar";
  TarContent content;
  for (int i = 0; i < 5; ++i) {
    content.emplace_back("a/" + std::to_string(i) + ".jpg",
                         Bytes(static_cast<std::size_t>(512 * i + 300 * (i % 2)), 9));
  }
  write_tar(path, content);
  const Bytes whole = *read_file_bytes(path);
  const std::size_t data_end = 512 * (5 + 0 + 2 + 2 + 4 + 4);  // headers and padded data; then the end marker
  for (std::size_t length = 0; length <= data_end + 500; length += 128) {
    const auto cut = folder.write("cut.tar", Bytes(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(length)));
    const std::string message = open_error(cut);
    EXPECT_NE(message, "nothing was thrown") << length << " bytes";
    EXPECT_CONTAINS(message, "cut.tar");
  }
}

TEST(TarDataset, ReadsJoinedTarsThrough) {
  const TempFolder folder;
  write_tar(folder.path() / "1.tar", {{"a/1.jpg", bytes_of("one")}});
  write_tar(folder.path() / "2.tar", {{"b/2.jpg", bytes_of("two")}});
  Bytes joined = *read_file_bytes(folder.path() / "1.tar");
  const Bytes second = *read_file_bytes(folder.path() / "2.tar");
  joined.insert(joined.end(), second.begin(), second.end());
  const auto dataset = open_path(folder.write("joined.tar", joined));
  ASSERT_EQ(dataset->size(), 2);
  EXPECT_EQ(text_of(dataset->get(1)), "two");
}

TEST(EmbeddedDigits, AreWhole) {
  const auto folder = std::filesystem::path(VRWKV_SOURCE_DIR) / "data" / "digits";
  const auto train = open_path(folder / "train.tar");
  const auto val = open_path(folder / "val.tar");
  EXPECT_EQ(train->size(), 1442);
  EXPECT_EQ(val->size(), 355);
  EXPECT_EQ(train->classes(), (std::vector<std::string>{"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"}));
  EXPECT_NO_THROW(check_same_classes(*train, *val));
  for (const auto& dataset : {train, val}) {
    std::vector<int64_t> counts(10);
    int64_t brightest = 0;
    for (int64_t i = 0; i < dataset->size(); ++i) {
      const at::Tensor image = decode_image(dataset->get(i).bytes);
      ASSERT_EQ(image.sizes(), (at::IntArrayRef{8, 8, 3}));
      brightest = std::max(brightest, image.max().item<int64_t>());
      ++counts[static_cast<std::size_t>(dataset->label(i))];
    }
    EXPECT_EQ(brightest, 255);
    const auto [least, most] = std::ranges::minmax(counts);
    EXPECT_LE(most - least, dataset->size() / 100 + 5);
  }
}

}  // namespace
}  // namespace vrwkv::data

#include "data/dataset.h"

#include <gtest/gtest.h>

#include "common/errors.h"
#include "tests/data/test_data.h"

namespace vrwkv::data {
namespace {

using testing::bytes_of;
using testing::message_of;
using testing::open_path;
using testing::TempFolder;

std::string text_of(const EncodedSample& sample) { return {sample.bytes.begin(), sample.bytes.end()}; }

std::string open_error(const DatasetOptions& options) {
  return message_of<UsageError>([&] { open_dataset(options); });
}

std::string path_error(const std::string& path) {
  return message_of<UsageError>([&] { open_path(path); });
}

#define EXPECT_CONTAINS(text, part) EXPECT_NE((text).find(part), std::string::npos) << (text)

TEST(FolderDataset, SortsClassesAndFiles) {
  const TempFolder folder;
  for (const char* name : {"dog/b.JPG", "dog/a.png", "dog/deep/er/c.jpeg", "cat/9.jpg", "cat/10.Jpeg", "cat/notes.txt",
                           "cat/._9.jpg", ".cache/x.jpg", "Zebra/z.png", "dog/.thumbs/t.jpg", "stray.jpg"}) {
    folder.write(name, bytes_of(name));
  }
  const auto dataset = open_path(folder.path());
  EXPECT_EQ(dataset->classes(), (std::vector<std::string>{"Zebra", "cat", "dog"}));
  EXPECT_TRUE(dataset->has_class_names());
  const std::vector<std::pair<std::string, int64_t>> expected{{"Zebra/z.png", 0}, {"cat/10.Jpeg", 1},
                                                              {"cat/9.jpg", 1},   {"dog/a.png", 2},
                                                              {"dog/b.JPG", 2},   {"dog/deep/er/c.jpeg", 2}};
  ASSERT_EQ(dataset->size(), std::ssize(expected));
  for (int64_t i = 0; i < dataset->size(); ++i) {
    const auto& [name, label] = expected[static_cast<std::size_t>(i)];
    const EncodedSample sample = dataset->get(i);
    EXPECT_EQ(text_of(sample), name);
    EXPECT_EQ(sample.label, label);
    EXPECT_EQ(dataset->label(i), label);
    EXPECT_EQ(sample.name, (folder.path() / name).string());
  }
  EXPECT_THROW(dataset->get(6), std::out_of_range);
  EXPECT_THROW(dataset->get(-1), std::out_of_range);
}

TEST(FolderDataset, FollowsALinkToAClassFolder) {
  const TempFolder folder;
  folder.write("store/x/1.jpg", bytes_of("1"));
  std::filesystem::create_directories(folder.path() / "set");
  std::filesystem::create_directory_symlink(folder.path() / "store/x", folder.path() / "set/x");
  EXPECT_EQ(open_path(folder.path() / "set")->size(), 1);
}

TEST(FolderDataset, SaysWhatIsMissing) {
  const TempFolder folder;
  const std::string path = folder.path().string();
  EXPECT_CONTAINS(path_error(path), "is empty: expected one folder of images per class");
  EXPECT_CONTAINS(path_error(path), path);
  folder.write("1.jpg", {});
  EXPECT_CONTAINS(path_error(path), "1 images but no class folders");
  folder.write("cat/readme.txt", {});
  folder.write("dog/1.jpg", {});
  EXPECT_CONTAINS(path_error(path), "class folder 'cat' has no .jpg, .jpeg or .png image");
  EXPECT_CONTAINS(path_error(path + "/nowhere"), "nowhere' does not exist");
  EXPECT_CONTAINS(path_error(""), "no dataset given");
}

TEST(FolderDataset, NamesAFileThatVanished) {
  const TempFolder folder;
  const auto file = folder.write("cat/1.jpg", bytes_of("1"));
  const auto dataset = open_path(folder.path());
  std::filesystem::remove(file);
  EXPECT_CONTAINS(message_of<ImageError>([&] { dataset->get(0); }), file.string() + ": cannot be opened");
}

TEST(ListDataset, ReadsAFlatFolder) {
  const TempFolder folder;
  folder.write("images/ILSVRC2012_val_1.JPEG", bytes_of("one"));
  folder.write("images/with blank.JPEG", bytes_of("two"));
  const auto list = folder.write("val.txt", bytes_of("ILSVRC2012_val_1.JPEG 65\r\n\n  with blank.JPEG\t3  \n"));
  for (const DatasetFormat format : {DatasetFormat::automatic, DatasetFormat::list}) {
    const auto dataset = open_dataset({(folder.path() / "images").string(), format, list.string()});
    ASSERT_EQ(dataset->size(), 2);
    EXPECT_EQ(text_of(dataset->get(0)), "one");
    EXPECT_EQ(text_of(dataset->get(1)), "two");
    EXPECT_EQ(dataset->label(0), 65);
    EXPECT_EQ(dataset->get(1).label, 3);
    EXPECT_EQ(dataset->classes().size(), 66U);
    EXPECT_FALSE(dataset->has_class_names());
  }
}

TEST(ListDataset, NamesTheLineThatIsWrong) {
  const TempFolder folder;
  folder.write("a.jpg", {});
  const auto error = [&](const std::string& text) {
    const auto list = folder.write("list.txt", bytes_of(text));
    return open_error({folder.path().string(), DatasetFormat::automatic, list.string()});
  };
  EXPECT_CONTAINS(error("a.jpg 1\na.jpg\n"), "list.txt:2: expected 'relative/path.jpg label'");
  EXPECT_CONTAINS(error("a.jpg one\n"), "got 'a.jpg one'");
  EXPECT_CONTAINS(error("a.jpg -1\n"), "list.txt:1");
  EXPECT_CONTAINS(error("a.jpg 1.5\n"), "list.txt:1");
  EXPECT_CONTAINS(error("a.jpg 99999999999999999999\n"), "list.txt:1");
  EXPECT_CONTAINS(error("\n\n"), "is empty");
  EXPECT_CONTAINS(error("b.jpg 1\n"), "its first image 'b.jpg' does not exist");
  EXPECT_CONTAINS(open_error({folder.path().string(), DatasetFormat::list, "/nowhere.txt"}), "cannot be opened");
}

TEST(OpenDataset, RefusesAFormatThatContradictsThePath) {
  const TempFolder folder;
  folder.write("cat/1.jpg", {});
  const std::string path = folder.path().string();
  EXPECT_CONTAINS(open_error({path, DatasetFormat::tar, ""}), "this is a folder");
  EXPECT_CONTAINS(open_error({path + "/cat/1.jpg", DatasetFormat::folder, ""}), "this is a file");
  EXPECT_CONTAINS(open_error({path, DatasetFormat::list, ""}), "needs the key 'list'");
  EXPECT_CONTAINS(open_error({path, DatasetFormat::folder, "val.txt"}), "val.txt");
  EXPECT_CONTAINS(open_error({path + "/cat/1.jpg", DatasetFormat::automatic, "val.txt"}), "val.txt");
}

TEST(CheckSameClasses, ListsWhatDiffers) {
  const TempFolder folder;
  const auto dataset = [&](const std::string& name, const std::vector<std::string>& classes) {
    for (const std::string& class_name : classes) {
      folder.write(name + "/" + class_name + "/1.jpg", {});
    }
    return open_path(folder.path() / name);
  };
  const auto train = dataset("train", {"a", "b", "c", "d"});
  EXPECT_NO_THROW(check_same_classes(*train, *dataset("same", {"d", "c", "b", "a"})));
  const auto val = dataset("val", {"a", "c", "e1", "e2", "e3", "e4", "e5", "e6"});
  const std::string message = message_of<UsageError>([&] { check_same_classes(*train, *val); });
  EXPECT_CONTAINS(message, "missing in validation: b, d;");
  EXPECT_CONTAINS(message, "only in validation: e1, e2, e3, e4, e5, … (6 in all)");

  const auto numbered = [&](const std::string& label) {
    const auto list = folder.write("list" + label, bytes_of("train/a/1.jpg " + label));
    return open_dataset({folder.path().string(), DatasetFormat::list, list.string()});
  };
  EXPECT_NO_THROW(check_same_classes(*train, *numbered("3")));
  EXPECT_NO_THROW(check_same_classes(*train, *numbered("0")));
  EXPECT_CONTAINS(message_of<UsageError>([&] { check_same_classes(*train, *numbered("4")); }),
                  "5 classes, the training set only 4");
}

}  // namespace
}  // namespace vrwkv::data

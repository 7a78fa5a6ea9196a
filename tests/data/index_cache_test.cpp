#include "data/index_cache.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "tests/data/test_data.h"

namespace vrwkv::data {
namespace {

using testing::Bytes;
using testing::bytes_of;
using testing::TempFolder;
using testing::write_tar;

/// A set and a cache for it. Files and folders are made to look an hour old, as only settled sets are kept.
class IndexCache : public ::testing::Test {
 protected:
  void age(const std::string& name) const {
    std::filesystem::last_write_time(folder_.path() / name,
                                     std::filesystem::file_time_type::clock::now() - std::chrono::hours(1));
  }

  std::vector<std::string> names(const std::string& set, const std::string& cache) const {
    DatasetOptions options;
    options.path = (folder_.path() / set).string();
    options.index_cache = cache == "off" ? cache : (folder_.path() / cache).string();
    const auto dataset = open_dataset(options);
    std::vector<std::string> all;
    for (int64_t i = 0; i < dataset->size(); ++i) {
      const EncodedSample sample = dataset->get(i);
      all.push_back(sample.name.substr(folder_.path().string().size() + 1) + "=" + std::to_string(sample.label) + "/" +
                    dataset->classes().at(static_cast<std::size_t>(sample.label)));
    }
    return all;
  }

  std::filesystem::path cache_file(const std::string& cache) const {
    for (const auto& entry : std::filesystem::directory_iterator(folder_.path() / cache)) {
      if (entry.path().extension() == ".index") return entry.path();
    }
    return {};
  }

  void make_folders() const {
    folder_.write("set/a/1.jpg", bytes_of("1"));
    folder_.write("set/a/deep/2.jpg", bytes_of("2"));
    folder_.write("set/b/3.jpg", bytes_of("3"));
    age_folders();
  }

  void age_folders() const {
    for (const char* name : {"set/a/deep", "set/a", "set/b", "set"}) age(name);
  }

  const std::vector<std::string> kFirst{"set/a/1.jpg=0/a", "set/a/deep/2.jpg=0/a", "set/b/3.jpg=1/b"};
  TempFolder folder_;
};

TEST_F(IndexCache, SecondStartDoesNotLookThroughTheFolders) {
  make_folders();
  EXPECT_EQ(names("set", "cache"), kFirst);
  ASSERT_FALSE(cache_file("cache").empty());
  // A file that comes without a trace in the folder's time is only found by looking: the cache was used.
  folder_.write("set/b/4.jpg", bytes_of("4"));
  const auto kept = decode_index(*read_file_bytes(cache_file("cache")));
  const auto time = std::filesystem::file_time_type::clock::from_sys(
      std::chrono::sys_time<std::chrono::nanoseconds>(std::chrono::nanoseconds(kept.sources.at(3).mtime)));
  EXPECT_TRUE(kept.sources.at(3).path.ends_with("set/b"));
  std::filesystem::last_write_time(folder_.path() / "set/b", time);
  EXPECT_EQ(names("set", "cache"), kFirst);
  EXPECT_EQ(names("set", "off").size(), 4U);
}

TEST_F(IndexCache, SeesEveryChangeOfAFolder) {
  make_folders();
  const auto changed = [&](const std::function<void()>& change) {
    age_folders();
    const auto before = names("set", "cache");
    EXPECT_EQ(before, names("set", "off"));
    change();
    EXPECT_NE(names("set", "cache"), before);
    EXPECT_EQ(names("set", "cache"), names("set", "off"));
  };
  changed([&] { folder_.write("set/a/deep/5.jpg", {}); });
  changed([&] { std::filesystem::remove(folder_.path() / "set/a/1.jpg"); });
  changed([&] { std::filesystem::rename(folder_.path() / "set/b/3.jpg", folder_.path() / "set/b/7.jpg"); });
  changed([&] { folder_.write("set/c/1.jpg", {}); });
  changed([&] {
    std::filesystem::remove_all(folder_.path() / "set/b");
    folder_.write("set/b/9.jpg", {});
  });
}

TEST_F(IndexCache, RebuildsADamagedFile) {
  make_folders();
  names("set", "cache");
  const auto file = cache_file("cache");
  const Bytes whole = *read_file_bytes(file);
  for (const Bytes& damaged : {Bytes{}, bytes_of("nonsense"), Bytes(whole.begin(), whole.end() - 5)}) {
    folder_.write("cache/" + file.filename().string(), damaged);
    ::testing::internal::CaptureStderr();
    EXPECT_EQ(names("set", "cache"), kFirst);
    EXPECT_NE(::testing::internal::GetCapturedStderr().find("is damaged"), std::string::npos);
    EXPECT_EQ(*read_file_bytes(file), whole);
  }
}

TEST_F(IndexCache, TellsSetsApartAndKeepsNothingFresh) {
  make_folders();
  names("set", "cache");
  // The same file in the cache, but of another set.
  ImageIndex other = decode_index(*read_file_bytes(cache_file("cache")));
  other.origin = "folder /elsewhere";
  other.classes.front() = "wrong";
  write_index(other, cache_file("cache"));
  EXPECT_EQ(names("set", "cache"), kFirst);
  folder_.write("set/b/4.jpg", {});
  EXPECT_EQ(names("set", "fresh").size(), 4U);
  EXPECT_FALSE(std::filesystem::exists(folder_.path() / "fresh"));
}

TEST_F(IndexCache, GoesOnWhereItCannotWrite) {
  make_folders();
  folder_.write("file", {});
  ::testing::internal::CaptureStderr();
  EXPECT_EQ(names("set", "file"), kFirst);
  EXPECT_NE(::testing::internal::GetCapturedStderr().find("set index_cache to another folder, or to off"),
            std::string::npos);
}

TEST_F(IndexCache, KeepsTheIndexOfTarsUntilOneChanges) {
  write_tar(folder_.path() / "1.tar", {{"a/1.jpg", bytes_of("one")}});
  write_tar(folder_.path() / "2.tar", {{"b/2.jpg", bytes_of("two")}});
  age("1.tar");
  age("2.tar");
  const std::vector<std::string> first{"1.tar:a/1.jpg=0/a", "2.tar:b/2.jpg=1/b"};
  EXPECT_EQ(names("*.tar", "cache"), first);
  const auto kept = cache_file("cache");
  ASSERT_FALSE(kept.empty());
  EXPECT_EQ(names("*.tar", "cache"), first);
  write_tar(folder_.path() / "2.tar", {{"c/2.jpg", bytes_of("two")}});
  EXPECT_EQ(names("*.tar", "cache"), (std::vector<std::string>{"1.tar:a/1.jpg=0/a", "2.tar:c/2.jpg=1/c"}));
}

TEST(IndexCacheFolder, FollowsTheEnvironment) {
  const auto with = [](const char* cache, const char* xdg, const char* home) {
    std::vector<std::pair<std::string, std::optional<std::string>>> before;
    for (const auto& [name, value] : {std::pair{"VRWKV_CACHE", cache}, {"XDG_CACHE_HOME", xdg}, {"HOME", home}}) {
      const char* old = std::getenv(name);
      before.emplace_back(name, old == nullptr ? std::nullopt : std::optional<std::string>(old));
      value == nullptr ? ::unsetenv(name) : ::setenv(name, value, 1);
    }
    const auto folder = index_cache_folder("auto");
    for (const auto& [name, value] : before) {
      value ? ::setenv(name.c_str(), value->c_str(), 1) : ::unsetenv(name.c_str());
    }
    return folder ? folder->string() : "none";
  };
  EXPECT_EQ(with("/c", "/x", "/h"), "/c/index");
  EXPECT_EQ(with(nullptr, "/x", "/h"), "/x/vrwkv/index");
  EXPECT_EQ(with("", "", "/h"), "/h/.cache/vrwkv/index");
  EXPECT_EQ(with(nullptr, nullptr, nullptr), "none");
  EXPECT_EQ(index_cache_folder("off"), std::nullopt);
  EXPECT_EQ(index_cache_folder("here"), "here");
}

}  // namespace
}  // namespace vrwkv::data

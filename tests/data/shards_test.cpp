#include "data/shards.h"

#include <gtest/gtest.h>

#include <map>

#include "common/errors.h"
#include "data/loader.h"
#include "data/mapped_file.h"
#include "data/tar_index.h"
#include "tests/data/test_data.h"

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

constexpr int64_t kShards = 5;

/// 5 shards of 1, 4, 7, 10 and 13 images of three classes, with their index.
class Shards : public ::testing::Test {
 protected:
  Shards() {
    ImageIndex all;
    all.classes = {"a", "b", "c"};
    ShardIndex index;
    for (int64_t shard = 0; shard < kShards; ++shard) {
      TarContent content;
      for (int64_t i = 0; i < 1 + 3 * shard; ++i) {
        const auto number = static_cast<std::uint64_t>(100 * shard + i);
        content.emplace_back(all.classes[static_cast<std::size_t>(i % 3)] + "/" + std::to_string(number) + ".png",
                             encode_png(testing::random_image(9 + i % 2, 8, number)));
      }
      const std::string name = shard_name(shard);
      write_tar(folder_.path() / name, content);
      const MappedFile file(folder_.path() / name);
      for (const TarEntry& entry : index_tar(file.bytes(), name)) {
        all.add(entry.path, {.offset = entry.bytes.data() - file.bytes().data(),
                             .bytes = std::ssize(entry.bytes),
                             .source = static_cast<std::int32_t>(shard),
                             .label = entry.path.front() - 'a'});
      }
      index.shards.push_back(measure_file(folder_.path(), name));
      index.shards.back().images = std::ssize(content);
      all.sources.push_back({name, index.shards.back().bytes, 0});
    }
    write_index(all, folder_.path() / kShardImagesFile);
    index.images = measure_file(folder_.path(), kShardImagesFile);
    index.images.images = all.size();
    index.plan = {.source = "/a \"b\" \xc3\xa4", .images = all.size(), .images_per_shard = 7, .labels_crc32 = 0xab};
    write_shard_plan(index.plan, folder_.path());
    write_shard_index(index, folder_.path());
    index_ = index;
  }

  std::string open_error() const {
    return message_of<UsageError>([&] { open_path(folder_.path()); });
  }
  void rewrite(const std::string& name, const std::function<void(Bytes&)>& change) const {
    Bytes bytes = *read_file_bytes(folder_.path() / name);
    change(bytes);
    folder_.write(name, bytes);
  }

  TempFolder folder_;
  ShardIndex index_;
};

TEST_F(Shards, TheIndexComesBack) {
  EXPECT_EQ(shard_name(12), "shard-000012.tar");
  EXPECT_EQ(read_shard_index(folder_.path()), index_);
  EXPECT_EQ(read_shard_plan(folder_.path()), index_.plan);
}

TEST_F(Shards, HoldTheSamplesThatTheTarsHold) {
  const auto indexed = open_path(folder_.path());
  const auto scanned = open_path(folder_.path() / "shard-*.tar");
  ASSERT_EQ(indexed->size(), 35);
  ASSERT_EQ(scanned->size(), 35);
  EXPECT_EQ(indexed->classes(), scanned->classes());
  for (int64_t i = 0; i < 35; ++i) {
    const EncodedSample a = indexed->get(i), b = scanned->get(i);
    EXPECT_TRUE(std::ranges::equal(a.bytes, b.bytes));
    EXPECT_EQ(a.name, b.name);
    EXPECT_EQ(a.label, b.label);
  }
}

TEST_F(Shards, RefuseWhatIsNotWhole) {
  rewrite(shard_name(2), [](Bytes& bytes) { bytes[600] ^= 1; });
  EXPECT_CONTAINS(check_file(folder_.path(), index_.shards[2]), "shard-000002.tar: expected the CRC-32");
  EXPECT_EQ(check_file(folder_.path(), index_.shards[3]), "");
  rewrite(shard_name(3), [](Bytes& bytes) { bytes.pop_back(); });
  EXPECT_CONTAINS(check_file(folder_.path(), index_.shards[3]), "shard-000003.tar: expected ");
  EXPECT_CONTAINS(open_error(), "'shard-000003.tar' is missing or has another size");
  std::filesystem::remove(folder_.path() / shard_name(3));
  EXPECT_CONTAINS(open_error(), "'shard-000003.tar' is missing or has another size");
  EXPECT_CONTAINS(check_file(folder_.path(), index_.shards[3]), "cannot be opened");
  rewrite(kShardImagesFile, [](Bytes& bytes) { bytes.resize(bytes.size() / 2); });
  EXPECT_CONTAINS(open_error(), "images.index is missing or damaged");
  rewrite("index.json", [](Bytes& bytes) { bytes.resize(bytes.size() / 2); });
  EXPECT_CONTAINS(open_error(), "index.json is damaged");
  std::filesystem::remove(folder_.path() / "index.json");
  EXPECT_CONTAINS(open_error(), "they are incomplete, as vrwkv-shard was interrupted");
  folder_.write("index.json", bytes_of(R"({"version": 2})"));
  EXPECT_CONTAINS(open_error(), "version 2, expected 1");
}

TEST_F(Shards, KeepTheirOwnLabels) {
  DatasetOptions options;
  options.path = folder_.path().string();
  options.ground_truth = options.synsets = "x";
  EXPECT_CONTAINS(message_of<UsageError>([&] { open_dataset(options); }), "these shards hold their labels");
}

LoaderOptions part(int64_t rank, int64_t world, std::uint64_t seed, int64_t workers, int64_t batch) {
  return {.batch_size = batch,
          .workers = workers,
          .prefetch_batches = 2,
          .seed = seed,
          .shuffle = true,
          .rank = rank,
          .world_size = world};
}

Transform small() {
  TrainTransformOptions options;
  options.size = 8;
  return train_transform(options);
}

std::vector<std::string> names_of(Loader& loader, int64_t epoch, int64_t first_batch) {
  std::vector<std::string> names;
  loader.start_epoch(epoch, first_batch);
  while (const auto batch = loader.next()) names.insert(names.end(), batch->names.begin(), batch->names.end());
  return names;
}

TEST_F(Shards, EveryImageComesOnceAndResumesInPlace) {
  const auto dataset = open_path(folder_.path());
  Generator draw(5, 0, 0, RandomStream::transform);
  for (int round = 0; round < 25; ++round) {
    const int64_t world = 1 + draw.integer(6), batch = 1 + draw.integer(5), epoch = draw.integer(9);
    const auto seed = static_cast<std::uint64_t>(draw.integer(1000));
    std::map<std::string, int> seen;
    for (int64_t rank = 0; rank < world; ++rank) {
      Loader loader(dataset, small(), part(rank, world, seed, 1 + draw.integer(3), batch));
      const auto names = names_of(loader, epoch, 0);
      for (const std::string& name : names) ++seen[name];
      // Another start, with other workers, in the middle of the epoch.
      const int64_t first = draw.integer(loader.batches_per_epoch());
      Loader resumed(dataset, small(), part(rank, world, seed, 1 + draw.integer(3), batch));
      EXPECT_EQ(names_of(resumed, epoch, first),
                std::vector<std::string>(names.begin() + static_cast<std::ptrdiff_t>(first * batch), names.end()));
    }
    EXPECT_EQ(seen.size(), 35U);
    for (const auto& [name, count] : seen) EXPECT_EQ(count, 1) << name;
  }
}

}  // namespace
}  // namespace vrwkv::data

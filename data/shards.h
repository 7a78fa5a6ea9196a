#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "data/image_index.h"

namespace vrwkv::data {

/// A file of a folder of shards.
struct ShardFile {
  std::string file;  ///< Name within the folder.
  int64_t images = 0;
  int64_t bytes = 0;
  std::uint32_t crc32 = 0;

  bool operator==(const ShardFile&) const = default;
};

/// What vrwkv-shard made the shards from and how. Written first (plan.json), so that a second call goes on with the
/// same.
struct ShardPlan {
  std::string source;
  int64_t images = 0;
  int64_t images_per_shard = 0;
  int64_t short_side = 0;          ///< Larger images were made smaller, to this short side in pixels; 0: none.
  int64_t quality = 0;             ///< Of the JPEGs that were made smaller; 0: none.
  bool fast_crop = false;          ///< JPEGs were given restart markers (jpeg_restarts.h).
  std::uint32_t labels_crc32 = 0;  ///< Of the source's labels and class names, which tells a changed source.

  bool operator==(const ShardPlan&) const = default;
};

/// A folder of shards as vrwkv-shard writes it, index.json: its plan, and every file with count, size and checksum.
struct ShardIndex {
  ShardPlan plan;
  std::vector<ShardFile> shards;
  ShardFile images;  ///< images.index: where each image lies, so that a start does not look through the shards.

  bool operator==(const ShardIndex&) const = default;
};

/// "shard-000012.tar".
std::string shard_name(int64_t number);

/// Whether `folder` was written by vrwkv-shard: it holds an index.json or a plan.json.
bool is_shard_folder(const std::filesystem::path& folder);

/// The plan of shards that are being written; see ShardPlan. Reading throws UsageError for a damaged file.
ShardPlan read_shard_plan(const std::filesystem::path& folder);
void write_shard_plan(const ShardPlan& plan, const std::filesystem::path& folder);

/// Whether the last file, index.json, is there.
bool is_complete(const std::filesystem::path& folder);

/// Writes index.json, after which the folder is complete; write_index() has written images.index before.
void write_shard_index(const ShardIndex& index, const std::filesystem::path& folder);

/// Throws UsageError for a folder that is not complete and for a damaged index.json.
ShardIndex read_shard_index(const std::filesystem::path& folder);

/// images.index, whose sources are the shards, relative to the folder. Throws UsageError as read_shard_index does, when
/// images.index is missing or damaged, and when a shard is missing or has another size.
ImageIndex read_shard_images(const std::filesystem::path& folder);

/// `file` in `folder` with its size and checksum as they are now, and no images counted. Throws UsageError.
ShardFile measure_file(const std::filesystem::path& folder, const std::string& file);

/// Reads all of `expected` again: empty when it is what it was, otherwise what differs.
std::string check_file(const std::filesystem::path& folder, const ShardFile& expected);

inline constexpr const char* kShardImagesFile = "images.index";

}  // namespace vrwkv::data

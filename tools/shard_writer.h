#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>

#include "data/options.h"

namespace vrwkv::tools {

struct ShardOptions {
  data::DatasetOptions source;
  std::filesystem::path out;
  int64_t images_per_shard = 1000;
  int64_t short_side = 0;  ///< Larger images are made smaller, to this short side in pixels; 0: none.
  int64_t quality = 90;    ///< Of the JPEGs that were made smaller.
  bool fast_crop = false;  ///< JPEGs get restart markers: the same pixels, parts of which are decoded alone.
  int64_t workers = 0;     ///< Threads; 0: one per core.
};

struct ShardReport {
  int64_t images = 0;
  int64_t shards = 0;
  int64_t found = 0;        ///< Shards that a former call had written.
  int64_t bytes = 0;        ///< Of all shards.
  int64_t smaller = 0;      ///< Images made smaller by this call.
  int64_t undecodable = 0;  ///< Images that could not be made smaller as they are damaged, in this call.
  int64_t fast_crop = 0;    ///< JPEGs that got restart markers in this call.
};

/// Writes the images of a set as shards (data/shards.h): shard k holds images k * images_per_shard and following, in
/// the set's order, named CLASS/NUMBER-NAME.jpg or .png, or, where classes have no names, NUMBER-NAME.jpg and .cls
/// (WebDataset's pairs). Images are copied byte by byte unless they are larger than `short_side`: those are decoded,
/// resized as for evaluation and encoded as JPEG; one that cannot be decoded is copied with a warning. With `fast_crop`
/// JPEGs pass through data::with_restarts(), which keeps some as they are.
///
/// The files are a function of the set and the options. Each appears whole or not at all, index.json last: after a kill
/// the same call goes on with the shards that are missing. `progress` is called with the images done and all images,
/// from the calling thread. Throws UsageError for a bad path, an `out` made from another set or with other options or
/// with files of somebody else, and a class name that cannot name a folder; ImageError for a file that cannot be read.
ShardReport write_shards(const ShardOptions& options, const std::function<void(int64_t, int64_t)>& progress);

}  // namespace vrwkv::tools

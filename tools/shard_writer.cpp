#include "tools/shard_writer.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <iomanip>
#include <optional>
#include <sstream>
#include <vector>

#include "common/atomic_file.h"
#include "common/errors.h"
#include "common/log.h"
#include "data/checksum.h"
#include "data/dataset.h"
#include "data/image_codec.h"
#include "data/image_name.h"
#include "data/jpeg_encoder.h"
#include "data/jpeg_restarts.h"
#include "data/mapped_file.h"
#include "data/resize.h"
#include "data/shards.h"
#include "data/tar_dataset.h"
#include "data/tar_index.h"
#include "tools/parallel.h"
#include "tools/tar_writer.h"

namespace vrwkv::tools {
namespace fs = std::filesystem;
namespace {

using Bytes = std::vector<std::uint8_t>;

std::span<const std::uint8_t> bytes_of(const std::string& text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

std::uint32_t labels_crc32(const data::Dataset& dataset) {
  std::uint32_t sum = 0;
  for (const std::string& name : dataset.classes()) sum = data::crc32(bytes_of(name + "\n"), sum);
  for (int64_t i = 0; i < dataset.size(); ++i)
    sum = data::crc32(bytes_of(std::to_string(dataset.label(i)) + "\n"), sum);
  return sum;
}

void check_class_names(const data::Dataset& dataset) {
  if (!dataset.has_class_names()) return;
  for (const std::string& name : dataset.classes()) {
    if (name.empty() || name == "." || name == ".." || name.find('/') != std::string::npos) {
      throw UsageError("the class name '" + name + "' cannot name a folder within a tar: rename the class");
    }
  }
}

bool is_png(std::span<const std::uint8_t> bytes) {
  constexpr std::array<std::uint8_t, 4> kSignature{0x89, 'P', 'N', 'G'};
  return bytes.size() >= kSignature.size() && std::ranges::equal(bytes.first(kSignature.size()), kSignature);
}

/// CLASS/00000012-NAME, without ending: unique, and the number tells where the image was in its set.
std::string stem_of(const data::Dataset& dataset, int64_t index, const data::EncodedSample& sample) {
  const std::string file = sample.name.substr(sample.name.find_last_of("/:") + 1);
  std::ostringstream text;
  if (dataset.has_class_names()) text << dataset.classes()[static_cast<std::size_t>(sample.label)] << '/';
  text << std::setfill('0') << std::setw(8) << index << '-' << file.substr(0, file.find_last_of('.'));
  return text.str();
}

class Sharding {
 public:
  explicit Sharding(const ShardOptions& options)
      : options_(options), dataset_(data::open_dataset(options.source)), plan_(plan_of(options, *dataset_)) {
    check_class_names(*dataset_);
    report_.images = dataset_->size();
    report_.shards = (dataset_->size() + options.images_per_shard - 1) / options.images_per_shard;
    shards_.resize(static_cast<std::size_t>(report_.shards));
    places_.resize(shards_.size());
  }

  ShardReport run(const std::function<void(int64_t, int64_t)>& progress) {
    prepare_folder();
    run_parallel(
        report_.shards, options_.workers, [this](int64_t shard) { make(shard); },
        [&] { progress(done_, report_.images); });
    finish();
    report_.found = found_;
    report_.smaller = smaller_;
    report_.undecodable = undecodable_;
    report_.fast_crop = fast_crop_;
    for (const data::ShardFile& shard : shards_) report_.bytes += shard.bytes;
    return report_;
  }

 private:
  static data::ShardPlan plan_of(const ShardOptions& options, const data::Dataset& dataset) {
    return {.source = fs::absolute(options.source.path).lexically_normal().string(),
            .images = dataset.size(),
            .images_per_shard = options.images_per_shard,
            .short_side = options.short_side,
            .quality = options.short_side > 0 ? options.quality : 0,
            .fast_crop = options.fast_crop,
            .labels_crc32 = labels_crc32(dataset)};
  }

  void prepare_folder() const {
    std::error_code failed;
    fs::create_directories(options_.out, failed);
    if (!fs::is_directory(options_.out)) {
      throw UsageError("--out: '" + options_.out.string() + "' is no folder and cannot be made: " + failed.message());
    }
    if (data::is_shard_folder(options_.out)) {
      const data::ShardPlan before = data::is_complete(options_.out) ? data::read_shard_index(options_.out).plan
                                                                     : data::read_shard_plan(options_.out);
      if (before != plan_) {
        throw UsageError("--out: '" + options_.out.string() + "' holds shards made from another set or with other " +
                         "options (" + before.source + ", " + std::to_string(before.images) + " images, " +
                         std::to_string(before.images_per_shard) + " per shard, short side " +
                         std::to_string(before.short_side) + ", quality " + std::to_string(before.quality) +
                         (before.fast_crop ? ", for fast crops" : "") + "): use another folder, or remove it first");
      }
      return;
    }
    if (const auto others = data::find_tars(options_.out.string()); !others.empty()) {
      throw UsageError("--out: '" + options_.out.string() + "' holds '" + others.front() +
                       "', which vrwkv-shard did not write: use another folder");
    }
    data::write_shard_plan(plan_, options_.out);
  }

  int64_t first(int64_t shard) const { return shard * options_.images_per_shard; }
  int64_t count(int64_t shard) const { return std::min(options_.images_per_shard, report_.images - first(shard)); }

  void make(int64_t shard) {
    if (fs::exists(options_.out / data::shard_name(shard))) {
      try {
        describe(shard);
        ++found_;
        done_ += count(shard);
        return;
      } catch (const UsageError& error) {
        log::warn(std::string("written again: ") + error.what());
      }
    }
    write(shard);
    describe(shard);
  }

  void write(int64_t shard) {
    AtomicFile file(options_.out / data::shard_name(shard));
    TarWriter tar(file);
    for (int64_t index = first(shard); index < first(shard) + count(shard); ++index) {
      const data::EncodedSample sample = dataset_->get(index);
      const std::optional<Bytes> smaller = options_.short_side > 0 ? made_smaller(sample) : std::nullopt;
      const std::span<const std::uint8_t> plain = smaller ? std::span(*smaller) : sample.bytes;
      const std::optional<Bytes> cuttable = options_.fast_crop ? with_restarts(plain) : std::nullopt;
      const std::span<const std::uint8_t> bytes = cuttable ? std::span(*cuttable) : plain;
      const std::string stem = stem_of(*dataset_, index, sample);
      tar.add(stem + (is_png(bytes) ? ".png" : ".jpg"), bytes);
      if (!dataset_->has_class_names()) tar.add(stem + ".cls", bytes_of(std::to_string(sample.label)));
      ++done_;
    }
    tar.close();
    file.commit();
  }

  std::optional<Bytes> with_restarts(std::span<const std::uint8_t> bytes) {
    std::optional<Bytes> restarts = data::with_restarts(bytes);
    if (restarts) ++fast_crop_;
    return restarts;
  }

  std::optional<Bytes> made_smaller(const data::EncodedSample& sample) {
    at::Tensor image;
    try {
      image = data::decode_image(sample.bytes);
    } catch (const data::ImageError& error) {
      log::warn(sample.name + ": kept as it is, as it cannot be decoded: " + error.what());
      ++undecodable_;
      return std::nullopt;
    }
    if (std::min(image.size(0), image.size(1)) <= options_.short_side) return std::nullopt;
    ++smaller_;
    return data::encode_jpeg(data::resize_short_side(image, options_.short_side), options_.quality);
  }

  /// Takes down what the written file holds. Throws UsageError when that is not what it should be.
  void describe(int64_t shard) {
    const std::string name = data::shard_name(shard);
    const data::MappedFile file(options_.out / name);
    data::ImageIndex places;
    int64_t images = 0;
    for (const data::TarEntry& entry : data::index_tar(file.bytes(), options_.out / name)) {
      if (!data::is_image_name(entry.path) || ++images > count(shard)) continue;
      const int64_t offset = entry.bytes.empty() ? 0 : entry.bytes.data() - file.bytes().data();
      places.add(entry.path, {.offset = offset,
                              .bytes = std::ssize(entry.bytes),
                              .source = static_cast<std::int32_t>(shard),
                              .label = static_cast<std::int32_t>(dataset_->label(first(shard) + images - 1))});
    }
    if (images != count(shard)) {
      throw UsageError("'" + name + "' holds " + std::to_string(images) + " images, expected " +
                       std::to_string(count(shard)));
    }
    shards_[static_cast<std::size_t>(shard)] = {name, places.size(), std::ssize(file.bytes()),
                                                data::crc32(file.bytes())};
    places_[static_cast<std::size_t>(shard)] = std::move(places);
  }

  void finish() const {
    data::ImageIndex all;
    all.classes = dataset_->classes();
    all.has_class_names = dataset_->has_class_names();
    for (std::size_t shard = 0; shard < shards_.size(); ++shard) {
      all.sources.push_back({shards_[shard].file, shards_[shard].bytes, 0});
      for (int64_t i = 0; i < places_[shard].size(); ++i) all.add(places_[shard].path(i), places_[shard].place(i));
    }
    data::write_index(all, options_.out / data::kShardImagesFile);
    data::ShardFile images = data::measure_file(options_.out, data::kShardImagesFile);
    images.images = all.size();
    data::write_shard_index({plan_, shards_, images}, options_.out);
  }

  const ShardOptions& options_;
  std::shared_ptr<const data::Dataset> dataset_;
  data::ShardPlan plan_;
  ShardReport report_;
  std::vector<data::ShardFile> shards_;   ///< Threads write to different elements.
  std::vector<data::ImageIndex> places_;  ///< Of the images of each shard.
  std::atomic<int64_t> done_ = 0, found_ = 0, smaller_ = 0, undecodable_ = 0, fast_crop_ = 0;
};

}  // namespace

ShardReport write_shards(const ShardOptions& options, const std::function<void(int64_t, int64_t)>& progress) {
  return Sharding(options).run(progress);
}

}  // namespace vrwkv::tools

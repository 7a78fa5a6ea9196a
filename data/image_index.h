#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace vrwkv::data {

/// A file or folder that an index was made from.
struct IndexSource {
  std::string path;   ///< Absolute, or relative to the folder that is_current() is given.
  int64_t bytes = 0;  ///< Size of a file; 0 for a folder.
  int64_t mtime = 0;  ///< Time of the last change in nanoseconds since 1970; 0: not compared.

  bool operator==(const IndexSource&) const = default;
};

/// `path` as it is now. Throws UsageError, naming it, when it is not there.
IndexSource index_source(const std::filesystem::path& path);

/// Whether the file or folder is there with the size and time that `source` holds.
bool is_current(const IndexSource& source, const std::filesystem::path& folder);

/// Which images a set has, without their bytes. 32 bytes and its path for an image, as ImageNet-22K has 14 million.
class ImageIndex {
 public:
  /// Where an image lies. `source`, `offset` and `bytes` count for archives only.
  struct Place {
    int64_t offset = 0;  ///< In bytes from the start of the archive.
    int64_t bytes = 0;
    std::int32_t source = 0;  ///< Into `sources`.
    std::int32_t label = 0;   ///< Into `classes`.

    bool operator==(const Place&) const = default;
  };

  std::string origin;  ///< What was indexed: tells the indices of a cache apart.
  std::vector<IndexSource> sources;
  std::vector<std::string> classes;
  bool has_class_names = true;

  /// Appends an image; `path` is what its messages name.
  void add(std::string_view path, const Place& place);

  int64_t size() const { return static_cast<int64_t>(images_.size()); }

  /// Both throw std::out_of_range unless `index` is 0 … size() - 1.
  std::string_view path(int64_t index) const;
  const Place& place(int64_t index) const;

  bool operator==(const ImageIndex&) const = default;

 private:
  struct Image {
    std::uint64_t path_end;  ///< Into paths_; the path begins where the former one ends.
    Place place;

    bool operator==(const Image&) const = default;
  };

  friend std::string encode_index(const ImageIndex& index);
  friend ImageIndex decode_index(std::span<const std::uint8_t> bytes);

  std::string paths_;
  std::vector<Image> images_;
};

/// The bytes of an index file: everything in `index`, and a checksum over it.
std::string encode_index(const ImageIndex& index);

/// The reverse. Throws std::runtime_error, saying what is wrong, for anything that encode_index did not write.
ImageIndex decode_index(std::span<const std::uint8_t> bytes);

/// encode_index(index) as the file `path`, put in place atomically. Throws std::runtime_error when it cannot be
/// written.
void write_index(const ImageIndex& index, const std::filesystem::path& path);

}  // namespace vrwkv::data

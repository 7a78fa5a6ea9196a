#include "data/image_index.h"

#include <sys/stat.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <optional>
#include <stdexcept>
#include <system_error>
#include <type_traits>

#include "common/atomic_file.h"
#include "common/errors.h"
#include "data/checksum.h"

namespace vrwkv::data {
namespace {

// The file is read where it was written, or on a machine of the same kind: numbers are as they lie in memory.
static_assert(std::endian::native == std::endian::little);

constexpr std::string_view kMagic = "vrwkv image index 1\n";

std::optional<IndexSource> source_now(const std::filesystem::path& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) return std::nullopt;
  constexpr int64_t kNanoseconds = 1'000'000'000;
  return IndexSource{path.string(), S_ISDIR(status.st_mode) ? 0 : static_cast<int64_t>(status.st_size),
                     status.st_mtim.tv_sec * kNanoseconds + status.st_mtim.tv_nsec};
}

std::span<const std::uint8_t> bytes_of(std::string_view text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

class Writer {
 public:
  template <typename T>
  void value(const T& value) {
    static_assert(std::is_trivially_copyable_v<T>);
    text_.append(reinterpret_cast<const char*>(&value), sizeof(T));
  }
  void text(std::string_view text) {
    value<std::uint64_t>(text.size());
    text_.append(text);
  }
  template <typename T>
  void values(const std::vector<T>& values) {
    static_assert(std::has_unique_object_representations_v<T>);  // No padding, whose bytes would be anything.
    value<std::uint64_t>(values.size());
    text_.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
  }
  void raw(std::string_view text) { text_.append(text); }
  std::string& result() { return text_; }

 private:
  std::string text_;
};

class Reader {
 public:
  explicit Reader(std::span<const std::uint8_t> bytes) : bytes_(bytes) {}

  std::span<const std::uint8_t> take(std::uint64_t count, std::uint64_t size = 1) {
    if (count > bytes_.size() / size) throw std::runtime_error("it ends too early");
    const auto taken = bytes_.first(static_cast<std::size_t>(count * size));
    bytes_ = bytes_.subspan(taken.size());
    return taken;
  }
  template <typename T>
  T value() {
    T value{};
    std::memcpy(&value, take(sizeof(T)).data(), sizeof(T));
    return value;
  }
  std::string text() {
    const auto taken = take(value<std::uint64_t>());
    return {taken.begin(), taken.end()};
  }
  template <typename T>
  std::vector<T> values() {
    const auto count = value<std::uint64_t>();
    const auto taken = take(count, sizeof(T));
    std::vector<T> values(static_cast<std::size_t>(count));
    if (count > 0) std::memcpy(values.data(), taken.data(), taken.size());
    return values;
  }
  bool done() const { return bytes_.empty(); }

 private:
  std::span<const std::uint8_t> bytes_;
};

}  // namespace

IndexSource index_source(const std::filesystem::path& path) {
  auto source = source_now(path);
  if (!source) throw UsageError("'" + path.string() + "' cannot be read: " + std::generic_category().message(errno));
  return *std::move(source);
}

bool is_current(const IndexSource& source, const std::filesystem::path& folder) {
  const auto now = source_now(folder / source.path);
  return now && now->bytes == source.bytes && (source.mtime == 0 || now->mtime == source.mtime);
}

void ImageIndex::add(std::string_view path, const Place& place) {
  paths_.append(path);
  images_.push_back({paths_.size(), place});
}

std::string_view ImageIndex::path(int64_t index) const {
  const auto end = images_.at(static_cast<std::size_t>(index)).path_end;
  const auto begin = index == 0 ? 0 : images_[static_cast<std::size_t>(index - 1)].path_end;
  return std::string_view(paths_).substr(begin, end - begin);
}

const ImageIndex::Place& ImageIndex::place(int64_t index) const {
  return images_.at(static_cast<std::size_t>(index)).place;
}

std::string encode_index(const ImageIndex& index) {
  Writer out;
  out.result().reserve(index.paths_.size() + index.images_.size() * sizeof(ImageIndex::Image) + 4096);
  out.raw(kMagic);
  out.text(index.origin);
  out.value<std::uint64_t>(index.sources.size());
  for (const IndexSource& source : index.sources) {
    out.text(source.path);
    out.value(source.bytes);
    out.value(source.mtime);
  }
  out.value<std::uint8_t>(index.has_class_names ? 1 : 0);
  out.value<std::uint64_t>(index.classes.size());
  for (const std::string& name : index.classes) out.text(name);
  out.text(index.paths_);
  out.values(index.images_);
  out.value(crc32(bytes_of(out.result())));
  return std::move(out.result());
}

ImageIndex decode_index(std::span<const std::uint8_t> bytes) {
  Reader in(bytes);
  const auto magic = in.take(kMagic.size());
  if (std::memcmp(magic.data(), kMagic.data(), kMagic.size()) != 0) {
    throw std::runtime_error("it is no image index of this version");
  }
  std::uint32_t sum = 0;
  const auto body = bytes.first(bytes.size() - std::min(bytes.size(), sizeof(sum)));
  std::memcpy(&sum, body.data() + body.size(), bytes.size() - body.size());
  if (crc32(body) != sum) throw std::runtime_error("its checksum is wrong");

  ImageIndex index;
  index.origin = in.text();
  for (auto left = in.value<std::uint64_t>(); left > 0; --left) {
    std::string path = in.text();
    const auto size = in.value<int64_t>();
    index.sources.push_back({std::move(path), size, in.value<int64_t>()});
  }
  index.has_class_names = in.value<std::uint8_t>() != 0;
  for (auto left = in.value<std::uint64_t>(); left > 0; --left) index.classes.push_back(in.text());
  index.paths_ = in.text();
  index.images_ = in.values<ImageIndex::Image>();
  in.take(sizeof(sum));
  std::uint64_t begin = 0;
  for (const ImageIndex::Image& image : index.images_) {
    const auto& [offset, size, source, label] = image.place;
    const bool inside = source >= 0 && source < std::ssize(index.sources) && label >= 0 &&
                        label < std::ssize(index.classes) && offset >= 0 && size >= 0 && image.path_end >= begin &&
                        image.path_end <= index.paths_.size();
    if (!inside || (size > 0 && offset > index.sources[static_cast<std::size_t>(source)].bytes - size)) {
      throw std::runtime_error("an image lies outside of its archive or has no class");
    }
    begin = image.path_end;
  }
  if (!in.done()) throw std::runtime_error("it is longer than its content");
  return index;
}

void write_index(const ImageIndex& index, const std::filesystem::path& path) {
  AtomicFile file(path);
  file.write(encode_index(index));
  file.commit();
}

}  // namespace vrwkv::data

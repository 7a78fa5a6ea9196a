#pragma once

#include <ATen/ATen.h>
#include <archive.h>
#include <archive_entry.h>
#include <locale.h>
#include <stdlib.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "data/dataset.h"
#include "data/file_bytes.h"
#include "data/image_codec.h"
#include "data/random.h"

/// What several tests of data/ need.
namespace vrwkv::data::testing {

using Bytes = std::vector<std::uint8_t>;

inline Bytes bytes_of(const std::string& text) { return {text.begin(), text.end()}; }

inline std::filesystem::path fixture(const std::string& name) {
  return std::filesystem::path(VRWKV_SOURCE_DIR) / "tests" / "data" / "fixtures" / name;
}

/// The pixels of a binary PPM as Pillow writes it: "P6\nWIDTH HEIGHT\n255\n", then the bytes.
inline at::Tensor read_ppm(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::string magic;
  int64_t width = 0;
  int64_t height = 0;
  int64_t levels = 0;
  file >> magic >> width >> height >> levels;
  file.get();
  at::Tensor image = at::empty({height, width, 3}, at::kByte);
  if (magic != "P6" || levels != 255 || !file.read(static_cast<char*>(image.mutable_data_ptr()), image.numel())) {
    throw std::runtime_error(path.string() + " is not a binary PPM");
  }
  return image;
}

inline std::filesystem::path shared_data(const std::string& name) {
  return std::filesystem::path(VRWKV_SOURCE_DIR) / ".." / "shared" / "data" / name;
}

/// Uniform noise, uint8 [height, width, 3].
inline at::Tensor random_image(int64_t height, int64_t width, std::uint64_t seed) {
  at::Tensor image = at::empty({height, width, 3}, at::kByte);
  Generator generator(seed, 0, 0, RandomStream::transform);
  auto* pixels = image.mutable_data_ptr<std::uint8_t>();
  for (int64_t i = 0; i < image.numel(); ++i) {
    pixels[i] = static_cast<std::uint8_t>(generator.integer(256));
  }
  return image;
}

/// Largest difference of two uint8 tensors of the same shape.
inline int64_t max_difference(const at::Tensor& a, const at::Tensor& b) {
  return (a.to(at::kLong) - b.to(at::kLong)).abs().max().item<int64_t>();
}

/// The message of the `Error` that `call` throws; "nothing was thrown" otherwise.
template <class Error, class Call>
std::string message_of(const Call& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "nothing was thrown";
}

/// A new folder that is removed with its content.
class TempFolder {
 public:
  TempFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "vrwkv-data-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) {
      throw std::runtime_error("no temporary folder");
    }
    path_ = name;
  }
  ~TempFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }

  /// Writes a file, with the folders that it needs, and returns its path.
  std::filesystem::path write(const std::string& name, const Bytes& content) const {
    const std::filesystem::path file = path_ / name;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file, std::ios::binary).write(reinterpret_cast<const char*>(content.data()), std::ssize(content));
    return file;
  }

 private:
  std::filesystem::path path_;
};

/// open_dataset with everything but the path left at its default.
inline std::shared_ptr<const Dataset> open_path(const std::filesystem::path& path) {
  DatasetOptions options;
  options.path = path.string();
  return open_dataset(options);
}

using TarContent = std::vector<std::pair<std::string, Bytes>>;

/// The calling thread's locale spells names in UTF-8 while this lives: libarchive's pax writer needs it.
class Utf8Names {
 public:
  Utf8Names() : utf8_(::newlocale(LC_CTYPE_MASK, "C.UTF-8", nullptr)), before_(::uselocale(utf8_)) {}
  ~Utf8Names() {
    ::uselocale(before_);
    ::freelocale(utf8_);
  }
  Utf8Names(const Utf8Names&) = delete;
  Utf8Names& operator=(const Utf8Names&) = delete;

 private:
  locale_t utf8_;
  locale_t before_;
};

/// Writes a tar: `format` is libarchive's name (ustar, pax, gnutar), `filter` its name of a compression.
inline void write_tar(const std::filesystem::path& path, const TarContent& content, const std::string& format = "ustar",
                      const std::string& filter = "") {
  const Utf8Names utf8;
  const std::unique_ptr<archive, decltype(&archive_write_free)> writer(archive_write_new(), archive_write_free);
  const auto check = [&](la_ssize_t result) {
    if (result < ARCHIVE_OK) {
      throw std::runtime_error(std::string("write_tar: ") + archive_error_string(writer.get()));
    }
  };
  check(archive_write_set_format_by_name(writer.get(), format.c_str()));
  if (!filter.empty()) {
    check(archive_write_add_filter_by_name(writer.get(), filter.c_str()));
  }
  check(archive_write_open_filename(writer.get(), path.c_str()));
  for (const auto& [name, bytes] : content) {
    const std::unique_ptr<archive_entry, decltype(&archive_entry_free)> entry(archive_entry_new(), archive_entry_free);
    archive_entry_set_pathname(entry.get(), name.c_str());
    archive_entry_set_size(entry.get(), std::ssize(bytes));
    archive_entry_set_filetype(entry.get(), AE_IFREG);
    archive_entry_set_perm(entry.get(), 0644);
    check(archive_write_header(writer.get(), entry.get()));
    check(archive_write_data(writer.get(), bytes.data(), bytes.size()));
  }
  check(archive_write_close(writer.get()));
}

/// Samples held in memory; label i % classes.
class MemoryDataset : public Dataset {
 public:
  MemoryDataset(std::vector<Bytes> images, int64_t classes) : images_(std::move(images)) {
    for (int64_t i = 0; i < classes; ++i) {
      classes_.push_back("class" + std::to_string(i));
    }
  }

  int64_t size() const override { return std::ssize(images_); }
  EncodedSample get(int64_t index) const override {
    return {images_.at(static_cast<std::size_t>(index)), nullptr, label(index), "image" + std::to_string(index)};
  }
  int64_t label(int64_t index) const override { return index % std::ssize(classes_); }
  const std::vector<std::string>& classes() const override { return classes_; }
  bool has_class_names() const override { return true; }

 private:
  std::vector<Bytes> images_;
  std::vector<std::string> classes_;
};

}  // namespace vrwkv::data::testing

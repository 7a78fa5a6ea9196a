#include "data/tar_index.h"

#include <archive.h>
#include <archive_entry.h>

#include <algorithm>
#include <array>
#include <memory>
#include <string_view>

#include "common/errors.h"

namespace vrwkv::data {
namespace {

constexpr std::size_t kBlock = 512;  // tar's unit

struct Free {
  void operator()(archive* reader) const { archive_read_free(reader); }
};

struct Compression {
  std::string_view name;
  std::string_view magic;
};

constexpr std::array<Compression, 5> kCompressions{{{"gzip", "\x1f\x8b"},
                                                    {"bzip2", "BZh"},
                                                    {"xz",
                                                     "\xfd"
                                                     "7zXZ"},
                                                    {"zstd", "\x28\xb5\x2f\xfd"},
                                                    {"lz4", "\x04\x22\x4d\x18"}}};

[[noreturn]] void fail(const std::filesystem::path& name, const std::string& what) {
  throw UsageError("dataset '" + name.string() + "': " + what);
}

std::string message_of(archive* reader) {
  const char* text = archive_error_string(reader);
  return text == nullptr ? "unknown error" : text;
}

void check_compression(std::span<const std::uint8_t> bytes, const std::filesystem::path& name) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  for (const Compression& compression : kCompressions) {
    if (text.starts_with(compression.magic)) {
      fail(name, "compressed with " + std::string(compression.name) +
                     "; images are read at random places, so the tar must be uncompressed first");
    }
  }
}

std::string path_of(archive_entry* entry) {
  // The raw name is only known to the library where the locale can spell it, the UTF-8 one where it is valid UTF-8.
  const char* utf8 = archive_entry_pathname_utf8(entry);
  const char* path = utf8 != nullptr ? utf8 : archive_entry_pathname(entry);
  const std::string_view text = path == nullptr ? std::string_view{} : path;
  return std::string(text.starts_with("./") ? text.substr(2) : text);
}

/// The bytes of the current entry, which libarchive hands out in place, in one piece.
std::span<const std::uint8_t> data_of(archive* reader, archive_entry* entry, const std::string& path,
                                      const std::filesystem::path& name) {
  const auto size = static_cast<std::size_t>(archive_entry_size(entry));
  if (size == 0) {
    return {};
  }
  const void* data = nullptr;
  std::size_t length = 0;
  la_int64_t offset = 0;
  const int result = archive_read_data_block(reader, &data, &length, &offset);
  if (result != ARCHIVE_OK && result != ARCHIVE_EOF) {
    fail(name, "'" + path + "' in the tar is truncated or damaged: " + message_of(reader));
  }
  if (offset != 0 || archive_entry_sparse_count(entry) != 0) {
    fail(name, "'" + path + "' in the tar is a sparse file, which is not supported");
  }
  if (length != size) {
    fail(name, "the tar is truncated: '" + path + "' has " + std::to_string(size) + " bytes, of which " +
                   std::to_string(length) + " are there");
  }
  return {static_cast<const std::uint8_t*>(data), size};
}

}  // namespace

std::vector<TarEntry> index_tar(std::span<const std::uint8_t> archive, const std::filesystem::path& name) {
  if (archive.empty()) {
    fail(name, "the file is empty (0 bytes)");
  }
  check_compression(archive, name);
  const std::unique_ptr<struct archive, Free> reader(archive_read_new());
  if (reader == nullptr || archive_read_support_format_tar(reader.get()) != ARCHIVE_OK ||
      archive_read_set_options(reader.get(), "tar:read_concatenated_archives") != ARCHIVE_OK) {
    fail(name, "libarchive did not start");
  }
  if (archive_read_open_memory(reader.get(), archive.data(), archive.size()) != ARCHIVE_OK) {
    fail(name, "not a tar file: " + message_of(reader.get()));
  }
  std::vector<TarEntry> entries;
  archive_entry* entry = nullptr;
  int result = ARCHIVE_OK;
  // ARCHIVE_WARN: a name that the locale cannot spell, or an unknown attribute; the data is fine.
  while ((result = archive_read_next_header(reader.get(), &entry)) == ARCHIVE_OK || result == ARCHIVE_WARN) {
    if (archive_entry_filetype(entry) != AE_IFREG) {
      continue;
    }
    std::string path = path_of(entry);
    if (path.empty()) {
      fail(name, "entry " + std::to_string(entries.size() + 1) + " of the tar has a name that cannot be read");
    }
    const auto bytes = data_of(reader.get(), entry, path, name);
    entries.push_back({std::move(path), bytes});
  }
  if (result != ARCHIVE_EOF) {
    fail(name, "the tar is truncated or damaged " +
                   (entries.empty() ? "at its start" : "after '" + entries.back().path + "'") + ": " +
                   message_of(reader.get()));
  }
  // A tar cut exactly between two files looks whole but for the missing end marker: two blocks of zeros.
  const auto end = archive.last(std::min(kBlock, archive.size()));
  if (archive.size() < 2 * kBlock || std::ranges::any_of(end, [](std::uint8_t byte) { return byte != 0; })) {
    fail(name, "the tar is truncated: its end marker is missing");
  }
  return entries;
}

}  // namespace vrwkv::data

#pragma once

#include <cstdint>
#include <filesystem>
#include <span>

namespace vrwkv::data {

/// A file mapped into memory for reading, as long as the object lives.
class MappedFile {
 public:
  /// Throws UsageError, naming the file, if it cannot be opened or is not a regular file.
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::uint8_t> bytes() const { return bytes_; }

 private:
  std::span<const std::uint8_t> bytes_;
};

}  // namespace vrwkv::data

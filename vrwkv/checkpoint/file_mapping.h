#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>

namespace vrwkv {

/// A private mapping of a whole file into memory, for tensors that lie in it: what is written to it stays in this
/// process.
class FileMapping {
 public:
  /// Throws std::runtime_error, naming the file, if it cannot be opened or is not a regular file.
  explicit FileMapping(const std::filesystem::path& path);
  ~FileMapping();
  FileMapping(const FileMapping&) = delete;
  FileMapping& operator=(const FileMapping&) = delete;

  uint64_t size() const { return size_; }
  /// The byte at `offset`, which must be at most size().
  std::byte* at(uint64_t offset) const { return static_cast<std::byte*>(data_) + offset; }

 private:
  void* data_ = nullptr;
  uint64_t size_ = 0;
};

}  // namespace vrwkv

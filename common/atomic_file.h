#pragma once

#include <cstddef>
#include <filesystem>
#include <string_view>

namespace vrwkv {

/// A file that appears under its name whole or not at all: written beside it under a temporary name, flushed to the
/// disk, then renamed. Without commit() (an exception, a kill) the former file stays as it was. One process writes a
/// given file at a time.
class AtomicFile {
 public:
  /// The temporary's name is the final one plus this; a killed process can leave it behind.
  static constexpr std::string_view kTemporarySuffix = ".tmp";

  /// Creates the temporary file. Throws std::runtime_error, as all members do, naming the path and the system's reason.
  explicit AtomicFile(std::filesystem::path path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(const void* data, size_t size);
  void write(std::string_view text) { write(text.data(), text.size()); }

  /// Puts the file in place; nothing may be written afterwards.
  void commit();

 private:
  [[noreturn]] void fail(const char* action) const;

  std::filesystem::path path_, temporary_;
  int descriptor_ = -1;
};

/// Gives `existing` the further name `name`, replacing what has that name, atomically (a hard link; a copy where the
/// file system has none).
void link_atomically(const std::filesystem::path& existing, const std::filesystem::path& name);

}  // namespace vrwkv

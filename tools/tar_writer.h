#pragma once

#include <cstdint>
#include <exception>
#include <memory>
#include <span>
#include <string>

#include "common/atomic_file.h"

struct archive;

namespace vrwkv::tools {

/// Writes an uncompressed tar (GNU's format, for names of any length) into a file. Its bytes are a function of what is
/// added alone: entries have no time, owner or other trace of the machine.
class TarWriter {
 public:
  /// `file` must outlive the writer. Throws std::runtime_error, as all members do.
  explicit TarWriter(AtomicFile& file);

  void add(const std::string& path, std::span<const std::uint8_t> bytes);

  /// Writes the end marker; the file can then be committed.
  void close();

 private:
  struct Free {
    void operator()(archive* writer) const;
  };
  struct Sink {
    AtomicFile& file;
    std::exception_ptr error;  ///< Kept here while libarchive's C code is on the stack.
  };

  static std::ptrdiff_t write(archive* writer, void* sink, const void* data, std::size_t size);
  void check(std::ptrdiff_t result) const;

  std::unique_ptr<Sink> sink_;
  std::unique_ptr<archive, Free> writer_;  ///< Writes into sink_, even when it is destroyed.
};

}  // namespace vrwkv::tools

#include "tools/tar_writer.h"

#include <archive.h>
#include <archive_entry.h>

#include <stdexcept>

namespace vrwkv::tools {
namespace {

struct FreeEntry {
  void operator()(archive_entry* entry) const { archive_entry_free(entry); }
};

}  // namespace

void TarWriter::Free::operator()(archive* writer) const { archive_write_free(writer); }

std::ptrdiff_t TarWriter::write(archive* writer, void* sink, const void* data, std::size_t size) {
  auto& target = *static_cast<Sink*>(sink);
  try {
    target.file.write(data, size);
    return static_cast<std::ptrdiff_t>(size);
  } catch (...) {
    target.error = std::current_exception();
    archive_set_error(writer, EIO, "the file cannot be written");
    return ARCHIVE_FATAL;
  }
}

TarWriter::TarWriter(AtomicFile& file) : sink_(new Sink{file, nullptr}), writer_(archive_write_new()) {
  if (writer_ == nullptr) throw std::runtime_error("tar: libarchive did not start");
  check(archive_write_set_format_gnutar(writer_.get()));
  check(archive_write_open(writer_.get(), sink_.get(), nullptr, write, nullptr));
}

void TarWriter::check(std::ptrdiff_t result) const {
  if (sink_->error) std::rethrow_exception(sink_->error);
  if (result < ARCHIVE_OK) throw std::runtime_error(std::string("tar: ") + archive_error_string(writer_.get()));
}

void TarWriter::add(const std::string& path, std::span<const std::uint8_t> bytes) {
  const std::unique_ptr<archive_entry, FreeEntry> entry(archive_entry_new());
  if (entry == nullptr) throw std::runtime_error("tar: out of memory");
  archive_entry_set_pathname(entry.get(), path.c_str());
  archive_entry_set_size(entry.get(), std::ssize(bytes));
  archive_entry_set_filetype(entry.get(), AE_IFREG);
  archive_entry_set_perm(entry.get(), 0644);
  archive_entry_set_mtime(entry.get(), 0, 0);
  check(archive_write_header(writer_.get(), entry.get()));
  check(archive_write_data(writer_.get(), bytes.data(), bytes.size()));
}

void TarWriter::close() { check(archive_write_close(writer_.get())); }

}  // namespace vrwkv::tools

#include "common/atomic_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

namespace vrwkv {
namespace {

std::filesystem::path temporary_for(const std::filesystem::path& path) {
  return path.string() + std::string(AtomicFile::kTemporarySuffix);
}

[[noreturn]] void throw_errno(const char* action, const std::filesystem::path& path) {
  throw std::runtime_error("cannot " + std::string(action) + " " + path.string() + ": " + std::strerror(errno));
}

/// Makes a rename durable.
void sync_folder(const std::filesystem::path& folder) {
  const int descriptor = ::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return;  // Some file systems allow no such open; the rename itself has succeeded.
  ::fsync(descriptor);
  ::close(descriptor);
}

struct OpenFile {
  int descriptor;
  ~OpenFile() {
    if (descriptor >= 0) ::close(descriptor);
  }
};

void copy_atomically(const std::filesystem::path& existing, const std::filesystem::path& name) {
  AtomicFile copy(name);
  const OpenFile source{::open(existing.c_str(), O_RDONLY | O_CLOEXEC)};
  if (source.descriptor < 0) throw_errno("read", existing);
  std::vector<std::byte> buffer(size_t{1} << 20);
  for (;;) {
    const ssize_t count = ::read(source.descriptor, buffer.data(), buffer.size());
    if (count == 0) break;
    if (count > 0) {
      copy.write(buffer.data(), static_cast<size_t>(count));
    } else if (errno != EINTR) {
      throw_errno("read", existing);
    }
  }
  copy.commit();
}

}  // namespace

AtomicFile::AtomicFile(std::filesystem::path path) : path_(std::move(path)), temporary_(temporary_for(path_)) {
  descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (descriptor_ < 0) throw_errno("create", temporary_);
}

AtomicFile::~AtomicFile() {
  if (descriptor_ < 0) return;
  ::close(descriptor_);
  ::unlink(temporary_.c_str());
}

void AtomicFile::fail(const char* action) const { throw_errno(action, path_); }

void AtomicFile::write(const void* data, size_t size) {
  const auto* bytes = static_cast<const std::byte*>(data);
  while (size > 0) {
    const ssize_t written = ::write(descriptor_, bytes, size);
    if (written < 0) {
      if (errno == EINTR) continue;
      fail("write");
    }
    bytes += written;
    size -= static_cast<size_t>(written);
  }
}

void AtomicFile::commit() {
  if (::fsync(descriptor_) != 0) fail("flush");
  // Network file systems report a full disk here.
  const int result = ::close(descriptor_);
  descriptor_ = -1;
  if (result != 0 || ::rename(temporary_.c_str(), path_.c_str()) != 0) {
    const int reason = errno;
    ::unlink(temporary_.c_str());
    errno = reason;
    fail("put in place");
  }
  sync_folder(path_.parent_path());
}

void link_atomically(const std::filesystem::path& existing, const std::filesystem::path& name) {
  const std::filesystem::path temporary = temporary_for(name);
  ::unlink(temporary.c_str());
  if (::link(existing.c_str(), temporary.c_str()) != 0) {
    copy_atomically(existing, name);
    return;
  }
  const bool renamed = ::rename(temporary.c_str(), name.c_str()) == 0;
  const int reason = errno;
  ::unlink(temporary.c_str());  // A rename between two names of one file leaves both, too.
  errno = reason;
  if (!renamed) throw_errno("put in place", name);
  sync_folder(name.parent_path());
}

}  // namespace vrwkv

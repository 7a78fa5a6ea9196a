#include "vrwkv/checkpoint/file_mapping.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <stdexcept>

namespace vrwkv {

FileMapping::FileMapping(const std::filesystem::path& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) throw std::runtime_error("cannot open " + path.string() + ": " + std::strerror(errno));
  struct stat status {};
  const bool known = ::fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode);
  if (known) size_ = static_cast<uint64_t>(status.st_size);
  // No swap space is set aside: a file may be larger than the memory, and hardly a page of it is ever changed.
  constexpr int kFlags = MAP_PRIVATE | MAP_NORESERVE;
  if (size_ > 0) data_ = ::mmap(nullptr, size_, PROT_READ | PROT_WRITE, kFlags, descriptor, 0);
  const int reason = errno;
  ::close(descriptor);
  if (!known) throw std::runtime_error(path.string() + ": not a regular file");
  if (data_ == MAP_FAILED) throw std::runtime_error(path.string() + ": cannot be mapped: " + std::strerror(reason));
}

FileMapping::~FileMapping() {
  if (data_ != nullptr && data_ != MAP_FAILED) ::munmap(data_, size_);
}

}  // namespace vrwkv

#include "data/index_cache.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <exception>
#include <stdexcept>

#include "common/log.h"
#include "data/checksum.h"
#include "data/mapped_file.h"

namespace vrwkv::data {
namespace fs = std::filesystem;
namespace {

constexpr std::chrono::nanoseconds kSettled = std::chrono::seconds(2);

/// Held while a process writes into the cache; the processes of a run start at the same time.
class CacheLock {
 public:
  explicit CacheLock(const fs::path& folder)
      : descriptor_(::open((folder / "lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666)) {
    if (descriptor_ < 0) throw std::runtime_error("cannot create " + (folder / "lock").string());
    held_ = ::flock(descriptor_, LOCK_EX | LOCK_NB) == 0;
  }
  ~CacheLock() { ::close(descriptor_); }
  CacheLock(const CacheLock&) = delete;
  CacheLock& operator=(const CacheLock&) = delete;

  bool held() const { return held_; }

 private:
  int descriptor_;
  bool held_ = false;
};

std::optional<fs::path> from_environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr || *value == '\0' ? std::nullopt : std::optional<fs::path>(value);
}

fs::path file_of(const fs::path& folder, const std::string& origin) {
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(origin.data());
  return folder / (crc32_text(crc32({bytes, origin.size()})) + ".index");
}

/// The index in `file`, if it is whole, of `origin` and still true.
std::optional<ImageIndex> read_current(const fs::path& file, const std::string& origin) {
  std::error_code ignored;
  if (!fs::exists(file, ignored)) return std::nullopt;
  try {
    ImageIndex index = decode_index(MappedFile(file).bytes());
    const auto current = [](const IndexSource& source) { return is_current(source, {}); };
    if (index.origin == origin && std::ranges::all_of(index.sources, current)) return index;
  } catch (const std::exception& error) {
    log::warn("the cached index '" + file.string() + "' is damaged (" + error.what() + ") and is made anew");
  }
  return std::nullopt;
}

bool has_settled(const ImageIndex& index) {
  const auto now =
      std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::system_clock::now().time_since_epoch());
  return std::ranges::all_of(index.sources, [&](const IndexSource& source) {
    return std::chrono::nanoseconds(source.mtime) + kSettled < now;
  });
}

void keep(const ImageIndex& index, const fs::path& folder, const fs::path& file) {
  try {
    fs::create_directories(folder);
    const CacheLock lock(folder);
    if (lock.held()) write_index(index, file);  // Otherwise another process is about to write the same.
  } catch (const std::exception& error) {
    log::warn("the index of the images cannot be kept in '" + folder.string() + "' (" + error.what() +
              "), so that the next start scans them again: set index_cache to another folder, or to off");
  }
}

}  // namespace

std::optional<fs::path> index_cache_folder(const std::string& option) {
  if (option == "off") return std::nullopt;
  if (option != "auto") return fs::path(option);
  if (const auto cache = from_environment("VRWKV_CACHE")) return *cache / "index";
  if (const auto cache = from_environment("XDG_CACHE_HOME")) return *cache / "vrwkv" / "index";
  if (const auto home = from_environment("HOME")) return *home / ".cache" / "vrwkv" / "index";
  return std::nullopt;
}

ImageIndex cached_index(const std::string& option, const std::string& origin, const std::function<ImageIndex()>& scan) {
  const auto folder = index_cache_folder(option);
  const fs::path file = folder ? file_of(*folder, origin) : fs::path();
  if (folder) {
    if (auto index = read_current(file, origin)) return *std::move(index);
  }
  ImageIndex index = scan();
  index.origin = origin;
  if (folder && has_settled(index)) keep(index, *folder, file);
  return index;
}

}  // namespace vrwkv::data

#include "vrwkv/checkpoint/zip_sizes.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>

namespace vrwkv {
namespace {

// Records and the places of their fields, from PKWARE's APPNOTE.TXT, 4.3 and 4.5.
constexpr uint32_t kEndMagic = 0x06054b50, kEnd64Magic = 0x06064b50, kLocatorMagic = 0x07064b50,
                   kEntryMagic = 0x02014b50;
constexpr uint64_t kEndSize = 22, kEnd64Size = 56, kLocatorSize = 20, kEntrySize = 46;
constexpr uint64_t kMaxComment = 0xFFFF;
constexpr uint32_t kIn64 = 0xFFFFFFFF;  // The number stands in the zip64 record.
constexpr uint16_t kZip64 = 1;

/// Deflate's best: 258 bytes for two bits.
constexpr uint64_t kMaxRatio = 1032;

/// Numbers at places that the caller has checked.
class Bytes {
 public:
  explicit Bytes(std::span<const std::byte> bytes) : bytes_(bytes) {}

  bool has(uint64_t offset, uint64_t size) const { return size <= bytes_.size() && offset <= bytes_.size() - size; }
  uint64_t size() const { return bytes_.size(); }

  template <typename Number>
  Number get(uint64_t offset) const {
    Number number;
    std::memcpy(&number, bytes_.data() + offset, sizeof(number));
    return number;
  }

  std::string text(uint64_t offset, uint64_t size) const {
    return {reinterpret_cast<const char*>(bytes_.data() + offset), static_cast<size_t>(size)};
  }

 private:
  std::span<const std::byte> bytes_;
};

/// The end record nearest to the end.
std::optional<uint64_t> find_end(const Bytes& archive) {
  if (!archive.has(0, kEndSize)) return std::nullopt;
  const uint64_t last = archive.size() - kEndSize;
  for (uint64_t back = 0; back <= std::min(last, kMaxComment); ++back) {
    if (archive.get<uint32_t>(last - back) == kEndMagic) return last - back;
  }
  return std::nullopt;
}

/// Where the central directory begins.
uint64_t find_directory(const Bytes& archive, uint64_t end) {
  constexpr uint64_t kStart = 16, kPlaceOfEnd64 = 8, kStart64 = 48;
  if (end >= kLocatorSize && archive.get<uint32_t>(end - kLocatorSize) == kLocatorMagic) {
    const auto end64 = archive.get<uint64_t>(end - kLocatorSize + kPlaceOfEnd64);
    if (archive.has(end64, kEnd64Size) && archive.get<uint32_t>(end64) == kEnd64Magic) {
      return archive.get<uint64_t>(end64 + kStart64);
    }
  }
  return archive.get<uint32_t>(end + kStart);
}

struct Sizes {
  uint64_t compressed, whole;
};

/// The sizes in an entry whose extra field is `extra_size` bytes from `extra` on.
Sizes sizes_of(const Bytes& archive, uint64_t entry, uint64_t extra, uint64_t extra_size) {
  constexpr uint64_t kCompressed = 20, kWhole = 24, kFieldHead = 4;
  const auto compressed = archive.get<uint32_t>(entry + kCompressed), whole = archive.get<uint32_t>(entry + kWhole);
  Sizes sizes{compressed, whole};
  for (const uint64_t end = extra + extra_size; extra + kFieldHead <= end;) {
    const uint64_t size = archive.get<uint16_t>(extra + 2);
    uint64_t at = extra + kFieldHead;
    extra = at + size;
    if (extra > end || archive.get<uint16_t>(at - kFieldHead) != kZip64) continue;
    // Only what did not fit before is there, the whole size first.
    for (const auto& [number, narrow] : {std::pair(&sizes.whole, whole), std::pair(&sizes.compressed, compressed)}) {
      if (narrow != kIn64 || at + sizeof(uint64_t) > extra) continue;
      *number = archive.get<uint64_t>(at);
      at += sizeof(uint64_t);
    }
  }
  return sizes;
}

}  // namespace

void check_zip_sizes(std::span<const std::byte> bytes) {
  constexpr uint64_t kNameSize = 28, kExtraSize = 30, kCommentSize = 32;
  const Bytes archive(bytes);
  const std::optional<uint64_t> end = find_end(archive);
  if (!end) return;
  uint64_t entry = find_directory(archive, *end), left = archive.size();
  while (archive.has(entry, kEntrySize) && archive.get<uint32_t>(entry) == kEntryMagic) {
    const uint64_t name_size = archive.get<uint16_t>(entry + kNameSize);
    const uint64_t extra_size = archive.get<uint16_t>(entry + kExtraSize);
    const uint64_t name = entry + kEntrySize, extra = name + name_size;
    if (!archive.has(name, name_size + extra_size)) return;
    const Sizes sizes = sizes_of(archive, entry, extra, extra_size);
    if (sizes.compressed > left || sizes.whole > sizes.compressed * kMaxRatio) {
      throw std::runtime_error("damaged archive: its entry '" + archive.text(name, name_size) + "' claims " +
                               std::to_string(sizes.whole) + " bytes, which its " + std::to_string(sizes.compressed) +
                               " in a file of " + std::to_string(archive.size()) + " cannot hold");
    }
    left -= sizes.compressed;
    entry = extra + extra_size + archive.get<uint16_t>(entry + kCommentSize);
  }
}

}  // namespace vrwkv

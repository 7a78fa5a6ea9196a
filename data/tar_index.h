#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace vrwkv::data {

/// A regular file within a tar.
struct TarEntry {
  std::string path;  ///< As stored, without a leading "./".
  std::span<const std::uint8_t> bytes;
};

/// The regular files of an uncompressed tar (ustar, pax, GNU) held in memory, in its order; their bytes point into
/// `archive`. Joined archives are read through. `name` is used in messages. Throws UsageError if it is no tar, is
/// compressed, damaged or truncated.
std::vector<TarEntry> index_tar(std::span<const std::uint8_t> archive, const std::filesystem::path& name);

}  // namespace vrwkv::data

#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <memory>
#include <vector>

#include "data/image_codec.h"

namespace vrwkv::data {

/// The whole file. Throws ImageError, naming it, when it cannot be read.
inline std::shared_ptr<const std::vector<std::uint8_t>> read_file_bytes(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  const std::streamoff size = file ? static_cast<std::streamoff>(file.tellg()) : -1;
  if (size < 0) {
    throw ImageError(path.string() + ": cannot be opened");
  }
  auto bytes = std::make_shared<std::vector<std::uint8_t>>(static_cast<std::size_t>(size));
  file.seekg(0);
  if (!file.read(reinterpret_cast<char*>(bytes->data()), size)) {
    throw ImageError(path.string() + ": cannot be read");
  }
  return bytes;
}

}  // namespace vrwkv::data

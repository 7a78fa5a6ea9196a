#include "data/read_image.h"

#include <filesystem>

#include "data/file_bytes.h"
#include "data/image_codec.h"

namespace vrwkv::data {

at::Tensor read_image(const std::string& path) {
  if (!std::filesystem::exists(path)) throw ImageError(path + ": does not exist");
  if (!std::filesystem::is_regular_file(path)) throw ImageError(path + ": is not a file");
  const auto bytes = read_file_bytes(path);
  try {
    return decode_image(*bytes);
  } catch (const ImageError& error) {
    throw ImageError(path + ": " + error.what());
  }
}

}  // namespace vrwkv::data

#include "data/image_codec.h"

#include <algorithm>
#include <array>
#include <iomanip>
#include <sstream>

#include "data/jpeg_codec.h"
#include "data/png_codec.h"

namespace vrwkv::data {
namespace {

constexpr std::array<std::uint8_t, 8> kPngMagic{0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n'};

bool starts_with(std::span<const std::uint8_t> bytes, std::span<const std::uint8_t> magic) {
  return bytes.size() >= magic.size() && std::equal(magic.begin(), magic.end(), bytes.begin());
}

std::string first_bytes(std::span<const std::uint8_t> bytes) {
  std::ostringstream text;
  text << std::hex << std::setfill('0');
  for (const std::uint8_t byte : bytes.first(std::min<std::size_t>(bytes.size(), 8))) {
    text << (text.tellp() > 0 ? " " : "") << std::setw(2) << static_cast<int>(byte);
  }
  return text.str();
}

}  // namespace

at::Tensor decode_image(std::span<const std::uint8_t> bytes, int64_t max_pixels) {
  if (bytes.empty()) {
    throw ImageError("the image is empty (0 bytes)");
  }
  if (is_jpeg(bytes)) {
    return decode_jpeg(bytes, max_pixels);
  }
  if (starts_with(bytes, kPngMagic)) {
    return decode_png(bytes, max_pixels);
  }
  throw ImageError("neither a JPEG nor a PNG: the first bytes are " + first_bytes(bytes));
}

}  // namespace vrwkv::data

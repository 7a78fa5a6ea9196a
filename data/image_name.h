#pragma once

#include <algorithm>
#include <array>
#include <string>
#include <string_view>

namespace vrwkv::data {

/// The ending of the file name in `path` in lower case, without its dot; empty if there is none.
inline std::string lower_extension(std::string_view path) {
  const std::string_view file = path.substr(path.find_last_of('/') + 1);
  const std::size_t dot = file.find_last_of('.');
  std::string extension(dot == std::string_view::npos ? std::string_view{} : file.substr(dot + 1));
  std::ranges::transform(extension, extension.begin(),
                         [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  return extension;
}

/// Hidden files, among them the "._name" companions that macOS puts into archives, are never samples.
inline bool is_hidden(std::string_view path) { return path.substr(path.find_last_of('/') + 1).starts_with('.'); }

/// Whether `path` is named as an image that decode_image reads: .jpg, .jpeg or .png in any case, not hidden.
inline bool is_image_name(std::string_view path) {
  constexpr std::array<std::string_view, 3> kExtensions{"jpg", "jpeg", "png"};
  return !is_hidden(path) && std::ranges::find(kExtensions, lower_extension(path)) != kExtensions.end();
}

}  // namespace vrwkv::data

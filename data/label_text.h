#pragma once

#include <charconv>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace vrwkv::data {

/// Largest number accepted as a label: a larger one is rather a mistake than a class.
inline constexpr int64_t kMaxLabel = 999'999;

inline std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kBlanks = " \t\r\n";
  const std::size_t first = text.find_first_not_of(kBlanks);
  return first == std::string_view::npos ? std::string_view{}
                                         : text.substr(first, text.find_last_not_of(kBlanks) - first + 1);
}

/// A label written as a decimal number 0 … kMaxLabel, blanks around it allowed; nothing for any other text.
inline std::optional<int64_t> parse_label(std::string_view text) {
  const std::string_view digits = trimmed(text);
  int64_t label = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), label);
  const bool whole = error == std::errc() && end == digits.data() + digits.size();
  return whole && label >= 0 && label <= kMaxLabel ? std::optional<int64_t>(label) : std::nullopt;
}

/// "0", "1", … "count - 1".
inline std::vector<std::string> numbered_classes(int64_t count) {
  std::vector<std::string> names;
  for (int64_t i = 0; i < count; ++i) {
    names.push_back(std::to_string(i));
  }
  return names;
}

}  // namespace vrwkv::data

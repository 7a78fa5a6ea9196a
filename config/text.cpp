#include "config/text.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <system_error>

namespace vrwkv::config {

namespace {

std::string_view without_sign(std::string_view text) {
  return text.starts_with('+') || text.starts_with('-') ? text.substr(1) : text;
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }

/// Bytes of the UTF-8 sequence at the start of `text`; 0 when it is malformed, overlong or a surrogate.
std::size_t utf8_length(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(0);
  if (first < 0x80) return 1;
  const std::size_t length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  if (first < 0xC2 || first > 0xF4 || text.size() < length) return 0;
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
  }
  const unsigned char second = byte(1);
  if ((first == 0xE0 && second < 0xA0) || (first == 0xED && second > 0x9F)) return 0;
  if ((first == 0xF0 && second < 0x90) || (first == 0xF4 && second > 0x8F)) return 0;
  return length;
}

}  // namespace

bool is_plain_text(std::string_view text, bool line_breaks) {
  while (!text.empty()) {
    const std::size_t length = utf8_length(text);
    if (length == 0) return false;
    const char c = text.front();
    const bool is_break = c == '\t' || c == '\n' || c == '\r';
    const bool is_control = length == 1 && (static_cast<unsigned char>(c) < 0x20 || c == 0x7F);
    if (is_control && !(line_breaks && is_break)) return false;
    text.remove_prefix(length);
  }
  return true;
}

std::string printable(std::string_view text) {
  constexpr std::size_t kLongest = 80;
  constexpr std::string_view kHex = "0123456789abcdef";
  std::string result;
  while (!text.empty()) {
    if (result.size() >= kLongest) return result + "...";
    const std::size_t length = std::max<std::size_t>(utf8_length(text), 1);
    if (is_plain_text(text.substr(0, length), false)) {
      result += text.substr(0, length);
    } else {
      const auto byte = static_cast<unsigned char>(text.front());
      result += {'\\', 'x', kHex[byte >> 4], kHex[byte & 15]};
    }
    text.remove_prefix(length);
  }
  return result;
}

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> parts(1);
  for (const char c : text) {
    if (c == separator) {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  return parts;
}

std::optional<int64_t> parse_integer(std::string_view text) {
  const std::string_view digits = without_sign(text);
  // from_chars takes a minus only.
  if (text.starts_with('+')) text = digits;
  if (digits.empty() || !std::all_of(digits.begin(), digits.end(), is_digit)) return std::nullopt;
  // YAML 1.1 reads a leading zero as octal, YAML 1.2 as decimal: refused rather than guessed.
  if (digits.size() > 1 && digits.front() == '0') return std::nullopt;
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<double> parse_number(std::string_view text) {
  const std::string_view body = without_sign(text);
  if (text.starts_with('+')) text = body;
  // from_chars would take "nan" and "inf", and a second sign is not a number.
  if (body.empty() || !(is_digit(body.front()) || body.front() == '.')) return std::nullopt;
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) return std::nullopt;
  return value;
}

std::string number_text(double value) {
  std::array<char, 32> buffer{};
  const auto [end, error] = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value);
  std::string text(buffer.data(), error == std::errc() ? end : buffer.data());
  if (text.find_first_of(".e") == std::string::npos) text += ".0";
  return text;
}

bool looks_like_other_type(std::string_view text) {
  constexpr std::array<std::string_view, 11> kReserved = {"",     "~",    "null",  "Null",  "NULL", "true",
                                                          "True", "TRUE", "false", "False", "FALSE"};
  return std::find(kReserved.begin(), kReserved.end(), text) != kReserved.end() || parse_number(text).has_value();
}

}  // namespace vrwkv::config

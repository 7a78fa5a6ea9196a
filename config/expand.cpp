#include "config/expand.h"

#include <cstddef>
#include <cstdlib>
#include <stdexcept>

#include "config/text.h"

namespace vrwkv::config {

namespace {

std::string environment(const std::string& name) {
  const bool starts_with_digit = !name.empty() && name.front() >= '0' && name.front() <= '9';
  const bool is_name =
      name.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_") == std::string::npos;
  if (name.empty() || starts_with_digit || !is_name) {
    throw std::invalid_argument("'${" + printable(name) +
                                "}' does not name an environment variable; write $$ for a dollar");
  }
  const char* value = std::getenv(name.c_str());
  if (value == nullptr) {
    throw std::invalid_argument("the environment variable '" + name + "' is not set; set it, or write the path itself");
  }
  if (!is_plain_text(value, false)) {
    throw std::invalid_argument("the environment variable '" + name + "' is not UTF-8 text on one line");
  }
  return value;
}

}  // namespace

std::string expand_path(const std::string& text) {
  std::string result;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text.compare(i, 2, "$$") == 0) {
      result += '$';
      ++i;
    } else if (text.compare(i, 2, "${") == 0) {
      const std::size_t end = text.find('}', i);
      if (end == std::string::npos) throw std::invalid_argument("'${' has no closing '}'; write $$ for a dollar");
      result += environment(text.substr(i + 2, end - i - 2));
      i = end;
    } else {
      result += text[i];
    }
  }
  if (result == "~" || result.starts_with("~/")) result = environment("HOME") + result.substr(1);
  return result;
}

std::string escape_path(const std::string& path) {
  std::string result;
  for (const char c : path) result += c == '$' ? "$$" : std::string(1, c);
  return result;
}

}  // namespace vrwkv::config

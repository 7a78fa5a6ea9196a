#include "config/fields.h"

#include <sstream>

namespace vrwkv::config {

namespace {

std::string bound_text(double bound) {
  std::ostringstream text;
  text << bound;
  return text.str();
}

std::string joined(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

}  // namespace

bool Range::contains(double value) const {
  return (low_open ? value > low : value >= low) && (high_open ? value < high : value <= high);
}

std::string Range::text() const {
  const bool has_low = low > -std::numeric_limits<double>::infinity();
  const bool has_high = high < std::numeric_limits<double>::infinity();
  if (has_low && has_high) {
    return std::string(" in ") + (low_open ? "(" : "[") + bound_text(low) + ", " + bound_text(high) +
           (high_open ? ")" : "]");
  }
  if (has_low) return (low_open ? " > " : " >= ") + bound_text(low);
  if (has_high) return (high_open ? " < " : " <= ") + bound_text(high);
  return "";
}

std::string expected(const Field& field) {
  const std::string range = field.range.text();
  return std::visit(
      Overloaded{
          [&](int64_t* /*value*/) { return "an integer" + range; },
          [&](double* /*value*/) { return "a number" + range; },
          [&](std::optional<double>* /*value*/) { return "a number" + range + ", or null for none"; },
          [&](std::span<double> values) { return "a list of " + std::to_string(values.size()) + " numbers" + range; },
          [](bool* /*value*/) { return std::string("true or false"); },
          [](const PathText& /*path*/) { return std::string("a string"); },
          [](const TextList& /*list*/) { return std::string("a list of strings"); },
          [](const DeviceText& /*device*/) { return std::string("cpu, cuda, cuda:N or auto"); },
          [](const Choice& names) { return "one of " + joined(names.names); },
      },
      field.target);
}

}  // namespace vrwkv::config

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace vrwkv::config {

/// The values that a number may have.
struct Range {
  double low = -std::numeric_limits<double>::infinity();
  double high = std::numeric_limits<double>::infinity();
  bool low_open = false;
  bool high_open = false;

  static Range any() { return {}; }
  static Range at_least(double low) { return {.low = low}; }
  static Range above(double low) { return {.low = low, .low_open = true}; }
  static Range between(double low, double high) { return {.low = low, .high = high}; }
  static Range share() { return {.low = 0, .high = 1, .high_open = true}; }          ///< [0, 1)
  static Range positive_share() { return {.low = 0, .high = 1, .low_open = true}; }  ///< (0, 1]

  bool contains(double value) const;
  /// " >= 1", " > 0", " in [0, 1)"; empty without bounds.
  std::string text() const;
};

/// One of several names, standing for the enumerators 0, 1, … of an enum.
struct Choice {
  std::vector<std::string> names;
  std::function<std::size_t()> get;
  std::function<void(std::size_t)> set;
};

/// `enumerator`'s type must be an enum numbered from 0, with `names` in its order.
template <typename Enum>
Choice choice(Enum& enumerator, std::vector<std::string> names) {
  return {.names = std::move(names),
          .get = [&enumerator] { return static_cast<std::size_t>(enumerator); },
          .set = [&enumerator](std::size_t index) { enumerator = static_cast<Enum>(index); }};
}

/// A path: ~ at the start and ${NAME} are expanded when it is read.
struct PathText {
  std::string* value;
};

/// A list of texts.
struct TextList {
  std::vector<std::string>* values;
};

/// A device name: cpu, cuda, cuda:N or auto.
struct DeviceText {
  std::string* value;
};

/// What a field's value is and where it is kept; pointers refer into the described struct.
using Target = std::variant<int64_t*, double*, std::optional<double>*, std::span<double>, bool*, PathText, TextList,
                            DeviceText, Choice>;

/// One key. Numbers must lie in `range`, every element of a list as well.
struct Field {
  std::string name;
  Target target;
  Range range;
  std::string about;
};

/// The keys of one struct. The only list of them: reading, checking, writing and the reference all walk it.
struct Section {
  std::string name;
  std::string about;
  std::vector<Field> fields;
  std::vector<Section> sections;
};

/// What `field` accepts, as error messages and the reference say it: "an integer >= 1", "one of fancy, local, global".
std::string expected(const Field& field);

/// Makes overloaded function objects for std::visit.
template <typename... Functions>
struct Overloaded : Functions... {
  using Functions::operator()...;
};
template <typename... Functions>
Overloaded(Functions...) -> Overloaded<Functions...>;

}  // namespace vrwkv::config

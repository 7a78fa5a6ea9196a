#include "config/reader.h"

#include <algorithm>
#include <cstddef>
#include <limits>
#include <stdexcept>
#include <utility>

#include "config/expand.h"
#include "config/nearest_name.h"
#include "config/text.h"

namespace vrwkv::config {

namespace {

/// Products of two such values still fit int64.
constexpr int64_t kLargestInteger = std::numeric_limits<int32_t>::max();

std::string got(const Node& node) {
  switch (node.kind) {
    case Node::Kind::null:
      return "nothing (null)";
    case Node::Kind::list:
      return "a list of " + std::to_string(node.items.size());
    case Node::Kind::mapping:
      return "a mapping";
    case Node::Kind::scalar:
      break;
  }
  return node.quoted ? "the string \"" + printable(node.text) + "\"" : "'" + printable(node.text) + "'";
}

bool is_plain_scalar(const Node& node) { return node.kind == Node::Kind::scalar && !node.quoted; }

bool is_device(const std::string& text) {
  if (text == "cpu" || text == "cuda" || text == "auto") return true;
  if (!text.starts_with("cuda:") || text.size() > 8) return false;
  const auto index = parse_integer(text.substr(5));
  return index && *index >= 0 && text[5] != '+' && text[5] != '-';
}

/// The dotted names of all keys and sections under `section`.
std::vector<std::string> all_names(const Section& section, const std::string& prefix) {
  std::vector<std::string> names;
  for (const Field& field : section.fields) names.push_back(prefix + field.name);
  for (const Section& inner : section.sections) {
    names.push_back(prefix + inner.name);
    for (std::string& name : all_names(inner, prefix + inner.name + ".")) names.push_back(std::move(name));
  }
  return names;
}

std::string last_part(const std::string& dotted) { return dotted.substr(dotted.rfind('.') + 1); }

class Reader {
 public:
  Reader(const Section& root, Problems& problems) : all_names_(all_names(root, "")), problems_(problems) {}

  void read(const Section& section, const Node& node, const std::string& prefix) {
    for (const Node::Entry& entry : node.entries) read_entry(section, entry, prefix);
  }

 private:
  void read_entry(const Section& section, const Node::Entry& entry, const std::string& prefix) {
    const std::string dotted = prefix + entry.key;
    const auto has_name = [&](const auto& named) { return named.name == entry.key; };
    const auto field = std::ranges::find_if(section.fields, has_name);
    if (field != section.fields.end()) {
      read_field(*field, entry.value, dotted);
      return;
    }
    const auto inner = std::ranges::find_if(section.sections, has_name);
    if (inner == section.sections.end()) {
      problems_.add(entry.where, "unknown key '" + printable(dotted) + "' (" + hint(section, entry.key) + ")");
    } else if (entry.value.kind == Node::Kind::mapping) {
      read(*inner, entry.value, dotted + ".");
    } else if (entry.value.kind != Node::Kind::null) {
      problems_.add(entry.value.where, "'" + dotted + "' must be a section of keys, got " + got(entry.value));
    }
  }

  std::string hint(const Section& section, const std::string& key) const {
    std::vector<std::string> names;
    for (const Field& field : section.fields) names.push_back(field.name);
    for (const Section& inner : section.sections) names.push_back(inner.name);
    if (const auto near = nearest_name(key, names)) return "did you mean '" + *near + "'?";
    // Right, or nearly, but in the wrong section.
    std::vector<std::string> last_parts(all_names_.size());
    std::ranges::transform(all_names_, last_parts.begin(), last_part);
    if (const auto near = nearest_name(key, last_parts)) {
      const auto index = std::ranges::find(last_parts, *near) - last_parts.begin();
      return "did you mean '" + all_names_[static_cast<std::size_t>(index)] + "'?";
    }
    std::string known;
    for (const std::string& name : names) known += (known.empty() ? "" : ", ") + name;
    return "known here: " + known;
  }

  void read_field(const Field& field, const Node& node, const std::string& dotted) {
    std::visit(Overloaded{
                   [&](int64_t* value) { assign(*value, integer(node, field, dotted)); },
                   [&](double* value) { assign(*value, number(node, field, dotted)); },
                   [&](std::optional<double>* value) { read_optional(*value, field, node, dotted); },
                   [&](std::span<double> values) { read_list(values, field, node, dotted); },
                   [&](bool* value) { read_bool(*value, field, node, dotted); },
                   [&](const PathText& path) { read_path(*path.value, field, node, dotted); },
                   [&](const TextList& list) { read_texts(*list.values, field, node, dotted); },
                   [&](const DeviceText& device) { read_device(*device.value, field, node, dotted); },
                   [&](const Choice& names) { read_choice(names, field, node, dotted); },
               },
               field.target);
  }

  template <typename Value>
  static void assign(Value& value, const std::optional<Value>& read) {
    if (read) value = *read;
  }

  void refuse(const Field& field, const Node& node, const std::string& dotted, const std::string& remedy = "") {
    problems_.add(node.where, "'" + dotted + "' must be " + expected(field) + ", got " + got(node) + remedy);
  }

  std::optional<int64_t> integer(const Node& node, const Field& field, const std::string& dotted) {
    const auto value = is_plain_scalar(node) ? parse_integer(node.text) : std::nullopt;
    if (value && *value > kLargestInteger) {
      refuse(field, node, dotted, "; the largest is " + std::to_string(kLargestInteger));
      return std::nullopt;
    }
    if (value && field.range.contains(static_cast<double>(*value))) return value;
    refuse(field, node, dotted);
    return std::nullopt;
  }

  std::optional<double> parsed_number(const Node& node, const Field& field) const {
    const auto value = is_plain_scalar(node) ? parse_number(node.text) : std::nullopt;
    return value && field.range.contains(*value) ? value : std::nullopt;
  }

  std::optional<double> number(const Node& node, const Field& field, const std::string& dotted) {
    const auto value = parsed_number(node, field);
    if (!value) refuse(field, node, dotted);
    return value;
  }

  void read_optional(std::optional<double>& value, const Field& field, const Node& node, const std::string& dotted) {
    if (node.kind == Node::Kind::null) {
      value.reset();
    } else if (const auto read = number(node, field, dotted)) {
      value = read;
    }
  }

  void read_list(std::span<double> values, const Field& field, const Node& node, const std::string& dotted) {
    if (node.kind != Node::Kind::list || node.items.size() != values.size()) {
      refuse(field, node, dotted);
      return;
    }
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (const auto read = parsed_number(node.items[i], field)) {
        values[i] = *read;
      } else {
        problems_.add(node.items[i].where, "'" + dotted + "[" + std::to_string(i) + "]' must be a number" +
                                               field.range.text() + ", got " + got(node.items[i]));
      }
    }
  }

  void read_bool(bool& value, const Field& field, const Node& node, const std::string& dotted) {
    if (is_plain_scalar(node) && (node.text == "true" || node.text == "false")) {
      value = node.text == "true";
    } else {
      refuse(field, node, dotted);
    }
  }

  /// Whether `node` is a text; says what is wrong if it is not.
  bool is_text(const Field& field, const Node& node, const std::string& dotted) {
    if (node.kind != Node::Kind::scalar) {
      refuse(field, node, dotted);
    } else if (!node.quoted && looks_like_other_type(node.text)) {
      refuse(field, node, dotted, "; write it in quotes");
    } else if (!is_plain_text(node.text, false)) {
      refuse(field, node, dotted, "; control characters cannot be part of it");
    } else {
      return true;
    }
    return false;
  }

  void read_texts(std::vector<std::string>& values, const Field& field, const Node& node, const std::string& dotted) {
    if (node.kind != Node::Kind::list) {
      refuse(field, node, dotted);
      return;
    }
    values.clear();
    for (const Node& item : node.items) {
      if (is_text(field, item, dotted)) values.push_back(item.text);
    }
  }

  void read_path(std::string& value, const Field& field, const Node& node, const std::string& dotted) {
    if (is_text(field, node, dotted)) {
      try {
        value = expand_path(node.text);
      } catch (const std::invalid_argument& error) {
        problems_.add(node.where, "'" + dotted + "' cannot be expanded: " + error.what());
      }
    }
  }

  void read_device(std::string& value, const Field& field, const Node& node, const std::string& dotted) {
    if (node.kind == Node::Kind::scalar && is_device(node.text)) {
      value = node.text;
    } else {
      refuse(field, node, dotted);
    }
  }

  void read_choice(const Choice& choice, const Field& field, const Node& node, const std::string& dotted) {
    const auto found = std::ranges::find(choice.names, node.text);
    if (node.kind == Node::Kind::scalar && found != choice.names.end()) {
      choice.set(static_cast<std::size_t>(found - choice.names.begin()));
      return;
    }
    const auto near = nearest_name(node.text, choice.names);
    refuse(field, node, dotted, near ? " (did you mean '" + *near + "'?)" : "");
  }

  std::vector<std::string> all_names_;
  Problems& problems_;
};

}  // namespace

void read_section(const Section& section, const Node& node, Problems& problems) {
  Reader(section, problems).read(section, node, "");
}

}  // namespace vrwkv::config

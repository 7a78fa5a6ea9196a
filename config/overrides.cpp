#include "config/overrides.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "common/errors.h"
#include "config/text.h"
#include "config/yaml_source.h"

namespace vrwkv::config {

namespace {

constexpr const char* kSource = "command line";
constexpr std::size_t kDeepest = 8;  // Above the depth of any key; bounds what a nonsense argument can build.

[[noreturn]] void fail(const std::string& override_text, const std::string& message) {
  throw UsageError(std::string(kSource) + ": '" + printable(override_text) + "' " + message);
}

std::vector<std::string> split_key(const std::string& key, const std::string& override_text) {
  std::vector<std::string> parts = split(key, '.');
  const auto is_word = [](const std::string& part) {
    return !part.empty() && std::ranges::all_of(part, [](char c) {
      return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
    });
  };
  if (parts.size() > kDeepest || !std::ranges::all_of(parts, is_word)) {
    fail(override_text,
         "must have the form key.path=value, such as train.epochs=3; '" + printable(key) + "' is not a key");
  }
  return parts;
}

bool is_section(const Node& root, const std::vector<std::string>& parts) {
  const Node* node = &root;
  for (const std::string& part : parts) {
    const Node::Entry* entry = node->find(part);
    if (entry == nullptr) return false;
    node = &entry->value;
  }
  return node->kind == Node::Kind::mapping;
}

/// The override as nested mappings with one key each.
Node parse_override(const std::string& text, const Node& root) {
  const std::size_t equals = text.find('=');
  if (equals == std::string::npos) fail(text, "must have the form key.path=value, such as train.epochs=3");
  const std::vector<std::string> parts = split_key(text.substr(0, equals), text);
  if (parts.front() == "base") fail(text, "is not possible: 'base' can only stand in a configuration file");
  const std::string value = text.substr(equals + 1);
  if (value.find_first_not_of(" \t\r\n") == std::string::npos) {
    fail(text, "has no value; write key=null to remove an optional value, or key='\"\"' for an empty string");
  }
  Node node;
  try {
    node = parse_yaml(value, kSource, false);
  } catch (const UsageError& error) {
    throw UsageError(std::string(error.what()) + ", in '" + printable(text) + "'");
  }
  // In a file an empty section changes nothing; on the command line that would be a request silently ignored.
  if (node.kind == Node::Kind::null && is_section(root, parts))
    fail(text, "would remove a section; name one key of it");
  node.where = {kSource, 0};
  for (auto part = parts.rbegin(); part != parts.rend(); ++part) {
    Node outer;
    outer.kind = Node::Kind::mapping;
    outer.where = {kSource, 0};
    outer.entries.push_back({*part, outer.where, std::move(node)});
    node = std::move(outer);
  }
  return node;
}

}  // namespace

void apply_overrides(Node& root, const std::vector<std::string>& overrides) {
  for (const std::string& text : overrides) {
    Node overlay = parse_override(text, root);
    const Location where = root.where;
    merge(root, std::move(overlay));
    root.where = where;
  }
}

}  // namespace vrwkv::config

#include "config/yaml_source.h"

#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <cstddef>
#include <fstream>
#include <sstream>
#include <system_error>
#include <utility>

#include "common/errors.h"
#include "config/text.h"
#include "config/tree_builder.h"

namespace vrwkv::config {

namespace {

constexpr std::size_t kLargestFile = 256 * 1024;

std::string read_text(const std::filesystem::path& file) {
  const std::string name = file.string();
  std::error_code error;
  const std::filesystem::file_status status = std::filesystem::status(file, error);
  if (!std::filesystem::exists(status)) {
    throw UsageError(name +
                     ": there is no such configuration file; give the path of a YAML file such as configs/NAME.yaml");
  }
  if (std::filesystem::is_directory(status)) throw UsageError(name + ": expected a YAML file, but this is a folder");
  std::ifstream stream(file, std::ios::binary);
  std::string text(kLargestFile + 1, '\0');
  stream.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (stream.bad() || !stream.eof()) {
    if (!stream.is_open() || stream.bad()) {
      throw UsageError(name + ": the file cannot be read; check its permissions");
    }
    throw UsageError(name + ": a configuration has at most " + std::to_string(kLargestFile) +
                     " bytes, this file has more");
  }
  text.resize(static_cast<std::size_t>(stream.gcount()));
  return text;
}

/// A file's own mapping; its location has no line.
Node read_mapping(const std::filesystem::path& file) {
  Node root = parse_yaml(read_text(file), file.string());
  if (root.kind == Node::Kind::null) {
    throw UsageError(file.string() +
                     ": the file holds no configuration; write at least one key, or {} for all defaults");
  }
  if (root.kind != Node::Kind::mapping) {
    throw UsageError(root.where.text() + ": a configuration is a mapping of `key: value` lines, got " +
                     (root.kind == Node::Kind::list ? "a list" : "'" + printable(root.text) + "'"));
  }
  root.where = {file.string(), 0};
  return root;
}

}  // namespace

Node parse_yaml(const std::string& text, const std::string& source, bool numbered) {
  TreeBuilder builder(source, numbered);
  if (!is_plain_text(text, true)) {
    // Found line by line, so that the message can name the line; a break never lies inside a UTF-8 sequence.
    std::istringstream lines(text);
    YAML::Mark mark;
    for (std::string line; std::getline(lines, line) && is_plain_text(line, true);) ++mark.line;
    throw UsageError(builder.location(mark).text() + ": not UTF-8 text, or it holds a control character");
  }
  try {
    std::istringstream stream(text);
    YAML::Parser parser(stream);
    while (parser.HandleNextDocument(builder)) {
    }
  } catch (const YAML::Exception& error) {
    throw UsageError(builder.location(error.mark).text() + ": YAML syntax error: " + error.msg);
  }
  return builder.take();
}

Node read_config_file(const std::filesystem::path& file) {
  Node root = read_mapping(file);
  const Node::Entry* entry = root.find("base");
  if (entry == nullptr) return root;
  const Location where = entry->where;
  const Node value = entry->value;
  std::erase_if(root.entries, [](const Node::Entry& other) { return other.key == "base"; });
  if (value.kind != Node::Kind::scalar || value.text.empty()) {
    throw UsageError(where.text() + ": 'base' must be the path of one YAML file, relative to this file's folder");
  }
  const std::filesystem::path base_file = (file.parent_path() / value.text).lexically_normal();
  std::error_code error;
  if (!std::filesystem::exists(base_file, error)) {
    throw UsageError(where.text() + ": 'base' names '" + base_file.string() +
                     "', which does not exist; the path is relative to this file's folder");
  }
  if (std::filesystem::equivalent(file, base_file, error)) {
    throw UsageError(where.text() + ": 'base' names this file itself; remove it or name another file");
  }
  Node merged = read_mapping(base_file);
  if (const Node::Entry* deeper = merged.find("base")) {
    throw UsageError(deeper->where.text() + ": a base cannot have a base of its own, but " + where.text() +
                     " extends this file; move the keys into one of the two");
  }
  // The whole is the extending file's; keys keep their own places.
  merged.where = root.where;
  merge(merged, std::move(root));
  return merged;
}

}  // namespace vrwkv::config

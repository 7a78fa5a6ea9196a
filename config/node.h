#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace vrwkv::config {

/// Where a value was written: a file and its line from 1, or the command line (line 0).
struct Location {
  std::string source;
  int64_t line = 0;

  /// `FILE:LINE`, or the source alone when there is no line.
  std::string text() const { return line > 0 ? source + ":" + std::to_string(line) : source; }
};

/// A YAML value that remembers where it was written. Aliases are already replaced by copies of what they name.
struct Node {
  enum class Kind { null, scalar, list, mapping };
  struct Entry;

  Kind kind = Kind::null;
  Location where;
  std::string text;            ///< scalar: its characters, quotes and escapes resolved.
  bool quoted = false;         ///< scalar: written with quotes or as a block, so it is a string whatever it looks like.
  std::vector<Node> items;     ///< list
  std::vector<Entry> entries;  ///< mapping, in the order written; keys are unique.

  /// The entry of `key`, or nullptr.
  const Entry* find(const std::string& key) const;
};

struct Node::Entry {
  std::string key;
  Location where;  ///< Of the key.
  Node value;
};

/// Puts `overlay` over `target`: mappings merge key by key, everything else is replaced. A null over a mapping (a
/// section with nothing in it) changes nothing.
void merge(Node& target, Node overlay);

/// The place of `dotted_key`, or of its nearest enclosing section that is written, or of `root`.
Location locate(const Node& root, const std::string& dotted_key);

}  // namespace vrwkv::config

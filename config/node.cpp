#include "config/node.h"

#include <algorithm>
#include <sstream>
#include <utility>

namespace vrwkv::config {

const Node::Entry* Node::find(const std::string& key) const {
  const auto found = std::find_if(entries.begin(), entries.end(), [&](const Entry& entry) { return entry.key == key; });
  return found == entries.end() ? nullptr : &*found;
}

void merge(Node& target, Node overlay) {
  if (target.kind == Node::Kind::mapping && overlay.kind == Node::Kind::null) return;
  if (target.kind != Node::Kind::mapping || overlay.kind != Node::Kind::mapping) {
    target = std::move(overlay);
    return;
  }
  for (Node::Entry& entry : overlay.entries) {
    const auto same = std::find_if(target.entries.begin(), target.entries.end(),
                                   [&](const Node::Entry& other) { return other.key == entry.key; });
    if (same == target.entries.end()) {
      target.entries.push_back(std::move(entry));
    } else {
      same->where = entry.where;
      merge(same->value, std::move(entry.value));
    }
  }
}

Location locate(const Node& root, const std::string& dotted_key) {
  const Node* node = &root;
  Location where = root.where;
  std::istringstream parts(dotted_key);
  for (std::string part; std::getline(parts, part, '.');) {
    const Node::Entry* entry = node->find(part);
    if (entry == nullptr) break;
    node = &entry->value;
    where = entry->where;
  }
  return where;
}

}  // namespace vrwkv::config

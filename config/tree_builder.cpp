#include "config/tree_builder.h"

#include <utility>

#include "common/errors.h"
#include "config/text.h"

namespace vrwkv::config {

namespace {

// Far above any configuration; they keep a few bytes of aliases from growing into gigabytes.
constexpr std::size_t kMostNodes = 10'000;
constexpr std::size_t kDeepest = 32;

[[noreturn]] void fail(const Location& where, const std::string& message) {
  throw UsageError(where.text() + ": " + message);
}

void refuse_tag(const std::string& tag, const Location& where) {
  // yaml-cpp gives "?" to untagged plain values and collections, "!" to quoted scalars.
  if (!tag.empty() && tag != "?" && tag != "!") {
    fail(where, "YAML tags are not used here, got '" + printable(tag) + "'; write the plain value");
  }
}

std::size_t count(const Node& node) {
  std::size_t total = 1;
  for (const Node& item : node.items) total += count(item);
  for (const Node::Entry& entry : node.entries) total += 1 + count(entry.value);
  return total;
}

}  // namespace

void TreeBuilder::OnDocumentStart(const YAML::Mark& mark) {
  if (++documents_ > 1) fail(location(mark), "a configuration is one YAML document, but a second one starts here");
}

void TreeBuilder::OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) {
  Node node;
  node.where = location(mark);
  add(std::move(node), anchor);
}

void TreeBuilder::OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) {
  const auto named = anchors_.find(anchor);
  if (named == anchors_.end()) fail(location(mark), "an alias stands inside the value that it names");
  nodes_ += count(named->second);
  add(named->second, YAML::NullAnchor);
}

void TreeBuilder::OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                           const std::string& value) {
  Node node;
  node.kind = Node::Kind::scalar;
  node.where = location(mark);
  node.text = value;
  node.quoted = tag == "!";
  refuse_tag(tag, node.where);
  add(std::move(node), anchor);
}

void TreeBuilder::OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                                  YAML::EmitterStyle::value /*style*/) {
  open(Node::Kind::list, mark, tag, anchor);
}

void TreeBuilder::OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                             YAML::EmitterStyle::value /*style*/) {
  open(Node::Kind::mapping, mark, tag, anchor);
}

void TreeBuilder::open(Node::Kind kind, const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor) {
  Open opened{};
  opened.node.kind = kind;
  opened.node.where = location(mark);
  opened.anchor = anchor;
  refuse_tag(tag, opened.node.where);
  if (open_.size() >= kDeepest) {
    fail(opened.node.where, "values are nested more than " + std::to_string(kDeepest) + " deep");
  }
  open_.push_back(std::move(opened));
}

void TreeBuilder::close() {
  Open closed = std::move(open_.back());
  open_.pop_back();
  add(std::move(closed.node), closed.anchor);
}

void TreeBuilder::add(Node node, YAML::anchor_t anchor) {
  if (++nodes_ > kMostNodes) fail(node.where, "more than " + std::to_string(kMostNodes) + " values");
  if (anchor != YAML::NullAnchor) anchors_[anchor] = node;
  if (open_.empty()) {
    root_ = std::move(node);
    return;
  }
  Open& parent = open_.back();
  if (parent.node.kind == Node::Kind::list) {
    parent.node.items.push_back(std::move(node));
  } else if (!parent.has_key) {
    add_key(parent, node);
  } else {
    // The parser's mark of an absent value lies behind it, on a later line.
    if (node.kind == Node::Kind::null) node.where = parent.key_where;
    parent.node.entries.push_back({parent.key, parent.key_where, std::move(node)});
    parent.has_key = false;
  }
}

void TreeBuilder::add_key(Open& mapping, const Node& key) const {
  if (key.kind != Node::Kind::scalar) fail(key.where, "a key must be a single word");
  if (const Node::Entry* first = mapping.node.find(key.text)) {
    const std::string before =
        first->where.line > 0 ? " (first on line " + std::to_string(first->where.line) + ")" : "";
    fail(key.where, "duplicate key '" + printable(key.text) + "'" + before + "; keep one of them");
  }
  mapping.has_key = true;
  mapping.key = key.text;
  mapping.key_where = key.where;
}

}  // namespace vrwkv::config

#pragma once

#include <yaml-cpp/anchor.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/mark.h>

#include <cstddef>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "config/node.h"

namespace vrwkv::config {

/// Builds a Node from the parser's events. yaml-cpp's own node tree keeps the last of two equal keys silently, has no
/// file in its marks and makes cycles of an alias inside its own anchor; all three matter here.
class TreeBuilder : public YAML::EventHandler {
 public:
  TreeBuilder(std::string source, bool numbered) : source_(std::move(source)), numbered_(numbered) {}

  Node take() { return std::move(root_); }
  Location location(const YAML::Mark& mark) const { return {source_, numbered_ ? mark.line + 1 : 0}; }

  void OnDocumentStart(const YAML::Mark& mark) override;
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override;
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override;
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override;
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value style) override;
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value style) override;
  void OnMapEnd() override { close(); }

 private:
  /// A list or mapping that is not closed yet.
  struct Open {
    Node node;
    YAML::anchor_t anchor;
    bool has_key = false;
    std::string key;
    Location key_where;
  };

  void open(Node::Kind kind, const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor);
  void close();
  void add(Node node, YAML::anchor_t anchor);
  void add_key(Open& mapping, const Node& key) const;

  std::string source_;
  bool numbered_;
  std::size_t documents_ = 0;
  std::size_t nodes_ = 0;
  Node root_;
  std::vector<Open> open_;
  std::map<YAML::anchor_t, Node> anchors_;
};

}  // namespace vrwkv::config

#include "tools/options_of_weights.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "common/errors.h"
#include "config/yaml_source.h"

namespace vrwkv::tools {
namespace {

/// The tensors of one file by name.
class Shapes {
 public:
  Shapes(const ModelWeights& weights, std::string file) : weights_(weights), file_(std::move(file)) {}

  bool has(const std::string& name) const { return weights_.tensors.contains(name); }

  /// Size of a dimension of the tensor `name`, which must have `dims` of them.
  int64_t size(const std::string& name, int64_t dims, int64_t dimension) const {
    const auto found = weights_.tensors.find(name);
    if (found == weights_.tensors.end()) {
      throw std::runtime_error(file_ + " holds no VRWKV classifier: expected a tensor '" + name + "' among its " +
                               std::to_string(weights_.tensors.size()) + ", found none");
    }
    if (found->second.dim() != dims) {
      throw std::runtime_error(file_ + ": " + name + " must have " + std::to_string(dims) + " dimensions, got " +
                               std::to_string(found->second.dim()));
    }
    return found->second.size(dimension);
  }

  const ModelWeights& weights() const { return weights_; }

 private:
  const ModelWeights& weights_;
  std::string file_;
};

int64_t depth_of(const Shapes& shapes) {
  int64_t depth = 0;
  while (shapes.has("backbone.layers." + std::to_string(depth) + ".ffn.key.weight")) ++depth;
  return depth;
}

bool post_norm_of(const Shapes& shapes) {
  const auto& metadata = shapes.weights().metadata;
  if (const auto found = metadata.find(kConfigKey); found != metadata.end()) {
    const config::Node root = config::parse_yaml(found->second, kConfigKey);
    const config::Node::Entry* model = root.find("model");
    const config::Node::Entry* post_norm = model ? model->value.find("post_norm") : nullptr;
    if (post_norm) return post_norm->value.text == "true";
  }
  return shapes.has("backbone.layers.0.gamma1");
}

/// Side of a square grid of so many tokens.
int64_t side_of(int64_t tokens) { return std::llround(std::sqrt(static_cast<double>(tokens))); }

}  // namespace

ClassifierOptions options_of_weights(const ModelWeights& weights, const std::string& file) {
  const Shapes shapes(weights, file);
  ClassifierOptions options;
  VrwkvOptions& backbone = options.backbone;
  const std::string projection = "backbone.patch_embed.projection.weight";
  backbone.embed_dims = shapes.size(projection, 4, 0);
  backbone.in_channels = shapes.size(projection, 4, 1);
  backbone.patch_size = shapes.size(projection, 4, 2);
  backbone.img_size = side_of(shapes.size("backbone.pos_embed", 3, 1)) * backbone.patch_size;
  const std::string first = "backbone.layers.0.";
  const int64_t hidden = shapes.size(first + "ffn.key.weight", 2, 0);
  backbone.hidden_rate = hidden / std::max<int64_t>(backbone.embed_dims, 1);
  backbone.depth = depth_of(shapes);
  if (shapes.has(first + "att.time_faaaa")) backbone.attention = Attention::bi_wkv6;
  if (shapes.has(first + "gamma1")) backbone.init_values = 1.0;
  backbone.key_norm = shapes.has(first + "ffn.key_norm.weight");
  backbone.post_norm = post_norm_of(shapes);
  options.head = shapes.has("head.2.weight") ? HeadKind::mlp_tanh : HeadKind::linear;
  options.num_classes = shapes.size(options.head == HeadKind::linear ? "head.fc.weight" : "head.2.weight", 2, 0);
  try {
    validate(options);
  } catch (const UsageError& error) {
    throw std::runtime_error(file + ": its tensors are of no network, as " + error.what());
  }
  return options;
}

}  // namespace vrwkv::tools

#include "vrwkv/options.h"

#include <cmath>

#include "common/errors.h"
#include "ops/bi_wkv6_head.h"
#include "vrwkv/require_option.h"

namespace vrwkv {

namespace {

bool is_rate(double value) { return value >= 0 && value < 1; }

void validate_out_indices(const VrwkvOptions& options) {
  int64_t last = -1;
  for (const int64_t index : options.out_indices) {
    require_option(index >= 0 && index < options.depth, "out_indices", index,
                   "layers from 0 to " + std::to_string(options.depth - 1));
    require_option(index > last, "out_indices", index, "strictly ascending (after " + std::to_string(last) + ")");
    last = index;
  }
}

/// VRWKV6 in the sizes of VRWKV.
ClassifierOptions vrwkv6_options(const std::string& size) {
  ClassifierOptions options = variant_options(size);
  options.backbone.attention = Attention::bi_wkv6;
  if (options.backbone.init_values) options.backbone.init_values = 1e-5;
  return options;
}

void validate_bi_wkv6(const VrwkvOptions& options) {
  require_option(options.embed_dims % ops::kBiWkv6HeadSize == 0, "embed_dims", options.embed_dims,
                 "whole heads of " + std::to_string(ops::kBiWkv6HeadSize) + " channels with attention bi_wkv6");
  require_option(options.wkv != WkvFormula::published, "wkv", "published",
                 "auto or paper with attention bi_wkv6, whose published weights know one formula");
  require_option(options.init_mode == InitMode::fancy, "init_mode",
                 options.init_mode == InitMode::local ? "local" : "global", "fancy with attention bi_wkv6");
  require_option(options.linear_init == LinearInit::trunc_normal, "linear_init", "zero_orthogonal",
                 "trunc_normal with attention bi_wkv6");
}

}  // namespace

ClassifierOptions variant_options(const std::string& name) {
  ClassifierOptions options;
  VrwkvOptions& backbone = options.backbone;
  if (name == "tiny") return options;
  if (name == "small") {
    backbone.embed_dims = 384;
    backbone.post_norm = true;
    backbone.init_values = 1.0;
    return options;
  }
  if (name == "base") {
    backbone.embed_dims = 768;
    backbone.post_norm = true;
    backbone.init_values = 1e-5;
    return options;
  }
  if (name == "large") {
    backbone.img_size = 384;
    backbone.embed_dims = 1024;
    backbone.depth = 24;
    backbone.post_norm = true;
    backbone.init_values = 1e-5;
    backbone.key_norm = true;
    backbone.linear_init = LinearInit::zero_orthogonal;
    options.head = HeadKind::mlp_tanh;
    return options;
  }
  for (const char* size : {"tiny", "small", "base"}) {
    if (name == std::string("vrwkv6_") + size) return vrwkv6_options(size);
  }
  throw UsageError(
      "model variant must be one of tiny, small, base, large, vrwkv6_tiny, vrwkv6_small, vrwkv6_base, got '" + name +
      "'");
}

void validate(const VrwkvOptions& backbone) {
  require_option(backbone.img_size >= 1, "img_size", backbone.img_size, ">= 1");
  require_option(backbone.patch_size >= 1, "patch_size", backbone.patch_size, ">= 1");
  require_option(backbone.img_size % backbone.patch_size == 0, "img_size", backbone.img_size,
                 "a multiple of patch_size (" + std::to_string(backbone.patch_size) + ")");
  require_option(backbone.in_channels >= 1, "in_channels", backbone.in_channels, ">= 1");
  // Q-Shift splits the channels into four groups.
  require_option(backbone.embed_dims >= 4, "embed_dims", backbone.embed_dims, ">= 4");
  require_option(backbone.depth >= 1, "depth", backbone.depth, ">= 1");
  require_option(backbone.hidden_rate >= 1, "hidden_rate", backbone.hidden_rate, ">= 1");
  if (backbone.init_values) {
    const double value = *backbone.init_values;
    require_option(std::isfinite(value) && value >= 0, "init_values", value, ">= 0, or unset");
  }
  require_option(is_rate(backbone.drop_rate), "drop_rate", backbone.drop_rate, "in [0, 1)");
  require_option(is_rate(backbone.drop_path_rate), "drop_path_rate", backbone.drop_path_rate, "in [0, 1)");
  validate_out_indices(backbone);
  if (backbone.attention == Attention::bi_wkv6) validate_bi_wkv6(backbone);
}

void validate(const ClassifierOptions& options) {
  validate(options.backbone);
  require_option(options.num_classes >= 1, "num_classes", options.num_classes, ">= 1");
}

}  // namespace vrwkv

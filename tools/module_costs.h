#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "vrwkv/layers/grid.h"
#include "vrwkv/masked_autoencoder.h"
#include "vrwkv/vrwkv_classifier.h"

namespace vrwkv::tools {

/// Floating point operations counted for each value that a layer norm or group norm reads: the mean, the deviation, its
/// square, the scale and the shift, as fvcore counts them.
inline constexpr int64_t kNormFlops = 5;

/// Multiply-adds of Bi-WKV for each token and channel: e^k v; the decayed numerator and denominator of either
/// direction; the two terms of the token itself. What is no product (sums, exponentials, the quotient) counts nothing,
/// as in all elementwise operations.
inline constexpr int64_t kBiWkvFlops = 1 + 2 * 2 + 2;

/// Multiply-adds of VRWKV6's attention for each token and channel of heads of `head` channels: in either direction the
/// decayed state, k^T v and its product with r, each of `head` values a channel; r u k and its product with v.
constexpr int64_t bi_wkv6_flops(int64_t head) { return 2 * 3 * head + 3; }

/// What a module costs, with all that is in it.
struct ModuleCosts {
  std::string name;        ///< Within the module around it; empty for the model.
  std::string kind;        ///< Class, without its namespace.
  int64_t parameters = 0;  ///< Numbers in its parameters.
  int64_t flops = 0;       ///< Of one image.
  std::vector<ModuleCosts> parts = {};
};

/// Parameters and FLOPs of a classifier for an image of `grid` patches, by its tree of modules. FLOPs are counted as
/// published tables do (fvcore's convention): a multiply-add of a matrix product is one, a normalisation kNormFlops for
/// each value, elementwise operations nothing; and Bi-WKV's own products. Every module of the backbone sees each token,
/// the head sees their mean. Throws std::logic_error for a class of layer that has no rule.
ModuleCosts model_costs(const VrwkvClassifier& model, Grid grid);

/// The same of a masked autoencoder: its encoder sees the visible tokens alone, its decoder all.
ModuleCosts model_costs(const MaskedAutoencoder& model, Grid grid);

}  // namespace vrwkv::tools

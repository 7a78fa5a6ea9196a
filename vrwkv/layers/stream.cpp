#include "vrwkv/layers/stream.h"

#include <ATen/Functions.h>
#include <ATen/autocast_mode.h>

#include "vrwkv/layers/layer_norm.h"

namespace vrwkv {

torch::Tensor make_feed(const torch::Tensor& x, bool standardized) {
  const torch::Tensor feed = standardized ? at::layer_norm(x, {x.size(-1)}, {}, {}, kLayerNormEps) : x;
  const auto device = x.device().type();
  return at::autocast::is_autocast_enabled(device) ? feed.to(at::autocast::get_autocast_dtype(device)) : feed;
}

}  // namespace vrwkv

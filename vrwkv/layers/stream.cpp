#include "vrwkv/layers/stream.h"

#include <ATen/Functions.h>

#include "vrwkv/autocast.h"
#include "vrwkv/layers/layer_norm.h"

namespace vrwkv {

torch::Tensor make_feed(const torch::Tensor& x, bool standardized) {
  const torch::Tensor feed = standardized ? at::layer_norm(x, {x.size(-1)}, {}, {}, kLayerNormEps) : x;
  return feed.to(autocast_dtype(x.device().type()).value_or(feed.scalar_type()));
}

}  // namespace vrwkv

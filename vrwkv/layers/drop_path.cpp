#include "vrwkv/layers/drop_path.h"

#include <ATen/Functions.h>

namespace vrwkv {

torch::Tensor draw_drop_path_mask(int64_t batch, double rate, const torch::TensorOptions& options) {
  if (rate <= 0.0) return {};
  const double keep = 1.0 - rate;
  return at::empty({batch, 1, 1}, options).bernoulli_(keep).div_(keep);
}

}  // namespace vrwkv

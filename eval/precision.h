#pragma once

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

#include <optional>

#include "config/run_config.h"
#include "vrwkv/autocast.h"

namespace vrwkv::eval {

/// Where a network runs, and in which precision.
struct Precision {
  at::Device device;
  config::Dtype dtype;
};

/// The type of the weights and of the images: float64, or float32 (also for bfloat16 and float16, which are autocast).
at::ScalarType weights_dtype(config::Dtype dtype);

/// While it lives, networks run in the given precision: autocast for bfloat16 and float16, nothing otherwise.
class PrecisionGuard {
 public:
  explicit PrecisionGuard(const Precision& precision);

 private:
  std::optional<AutocastGuard> autocast_;
};

}  // namespace vrwkv::eval

#pragma once

#include <ATen/autocast_mode.h>

#include <optional>

#include "ops/weight_casts.h"

namespace vrwkv {

/// Turns autocast on for one device type while it lives, and restores what was before; a thread's outermost guard drops
/// the cast weights, autocast's and those of ops/weight_casts.h, which the next optimizer step would make stale.
class AutocastGuard {
 public:
  AutocastGuard(c10::DeviceType device, at::ScalarType dtype);
  ~AutocastGuard();
  AutocastGuard(const AutocastGuard&) = delete;
  AutocastGuard& operator=(const AutocastGuard&) = delete;

 private:
  c10::DeviceType device_;
  bool was_enabled_;
  at::ScalarType old_dtype_;
  ops::WeightCastScope weight_casts_;
};

/// The dtype of autocast on a type of device, none where it is off.
std::optional<at::ScalarType> autocast_dtype(c10::DeviceType device);

}  // namespace vrwkv

#pragma once

#include <c10/core/ScalarType.h>

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "bench/op_cases.h"
#include "bench/timer.h"
#include "common/table.h"

namespace vrwkv::bench {

struct OpSettings {
  at::Device device;
  at::ScalarType dtype;
  TimerOptions timer;
};

/// One pass of an operator: its time, and the bytes that it must move.
struct Pass {
  Timing timing;
  double bytes = 0;

  double gbs() const { return bytes / timing.median_ms / 1e6; }
};

struct OpResult {
  std::string op;
  OpSize size;
  at::ScalarType dtype;
  bool is_reference = false;
  bool out_of_memory = false;
  std::optional<Pass> forward, backward;
};

/// Bytes a second, in GB, of a copy of a tensor far larger than any cache, read and written bytes counted.
double measure_copy_gbs(const OpSettings& settings);

/// Measures both passes. Inputs alternate among copies that together exceed the device's cache, so that a pass reads
/// from memory. With `reference`, op.reference in place of op.forward.
OpResult measure_op(const OpCase& op, const OpSize& size, const OpSettings& settings, bool reference = false);

Table op_table(const std::vector<OpResult>& results, double copy_gbs);
nlohmann::ordered_json op_json(const OpResult& result, double copy_gbs);

/// For each reference: how many times longer it takes than the operator, one line each.
std::string reference_ratios(const std::vector<OpResult>& results);

}  // namespace vrwkv::bench

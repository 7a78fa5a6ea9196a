#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <string>
#include <vector>

namespace vrwkv::bench {

/// The tensors [B, T, C] that an operator works on.
struct OpSize {
  int64_t batch = 0, tokens = 0, channels = 0;

  std::string text() const;  ///< "128,196,192"
  bool operator==(const OpSize&) const = default;
};

/// Reads `B,T,C` of every argument of --sizes. Throws UsageError that says what was expected and what came.
std::vector<OpSize> parse_op_sizes(const std::vector<std::string>& arguments);

/// Reads sides of square images in pixels, separated by commas or given as several arguments. Each must be a multiple
/// of `patch`. Throws UsageError that says what was expected and what came.
std::vector<int64_t> parse_image_sizes(const std::vector<std::string>& arguments, int64_t patch);

/// What is measured without --sizes.
std::vector<OpSize> default_op_sizes(at::Device device);
std::vector<int64_t> default_image_sizes(at::Device device);

/// Images at once without --batch: what fills the device at 224 pixels (the published training batches on a GPU), and
/// at larger sizes the largest power of two with no more pixels, at least 1.
int64_t default_batch(const std::string& variant, int64_t image_size, at::Device device);

}  // namespace vrwkv::bench

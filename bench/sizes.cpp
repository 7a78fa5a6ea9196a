#include "bench/sizes.h"

#include <algorithm>
#include <limits>
#include <optional>

#include "common/errors.h"
#include "config/text.h"

namespace vrwkv::bench {
namespace {

constexpr int64_t kReferenceSide = 224;
constexpr int64_t kCpuBatch = 8;

/// None unless the whole of `text` is an integer from 1 to 2^31 - 1.
std::optional<int64_t> parse_extent(const std::string& text) {
  const std::optional<int64_t> value = config::parse_integer(text);
  return value && *value >= 1 && *value <= std::numeric_limits<int32_t>::max() ? value : std::nullopt;
}

OpSize parse_op_size(const std::string& argument) {
  std::vector<int64_t> extents;
  const std::vector<std::string> parts = config::split(argument, ',');
  for (const std::string& part : parts) {
    if (const auto extent = parse_extent(part)) extents.push_back(*extent);
  }
  if (extents.size() != 3 || parts.size() != 3) {
    throw UsageError(
        "--sizes: expected B,T,C, three integers >= 1 such as 128,196,192 (several are separated by "
        "spaces); got '" +
        config::printable(argument) + "'");
  }
  // Every product of the three stays within int64, and so do its bytes.
  if (static_cast<double>(extents[0]) * static_cast<double>(extents[1]) * static_cast<double>(extents[2]) > 1e15) {
    throw UsageError("--sizes: expected at most 1e15 elements, got '" + argument + "'");
  }
  return {extents[0], extents[1], extents[2]};
}

}  // namespace

std::string OpSize::text() const {
  return std::to_string(batch) + "," + std::to_string(tokens) + "," + std::to_string(channels);
}

std::vector<OpSize> parse_op_sizes(const std::vector<std::string>& arguments) {
  std::vector<OpSize> sizes;
  for (const std::string& argument : arguments) sizes.push_back(parse_op_size(argument));
  return sizes;
}

std::vector<int64_t> parse_image_sizes(const std::vector<std::string>& arguments, int64_t patch) {
  constexpr int64_t kLargest = 1 << 15;
  std::vector<int64_t> sizes;
  for (const std::string& argument : arguments) {
    for (const std::string& part : config::split(argument, ',')) {
      const std::optional<int64_t> side = parse_extent(part);
      if (!side || *side % patch != 0 || *side > kLargest) {
        throw UsageError("--sizes: expected sides of images in pixels, multiples of the patch size " +
                         std::to_string(patch) + " up to " + std::to_string(kLargest) + ", such as 224,1024; got '" +
                         config::printable(part) + "'");
      }
      sizes.push_back(*side);
    }
  }
  return sizes;
}

std::vector<OpSize> default_op_sizes(at::Device device) {
  if (device.is_cpu()) return {{8, 196, 192}, {128, 196, 192}};
  return {{128, 196, 192}, {256, 196, 384}, {128, 196, 768}, {16, 1024, 768},
          {4, 4096, 768},  {1, 16384, 192}, {8, 16384, 192}};
}

std::vector<int64_t> default_image_sizes(at::Device device) {
  if (device.is_cpu()) return {kReferenceSide};
  return {kReferenceSide, 1024, 2048};
}

int64_t default_batch(const std::string& variant, int64_t image_size, at::Device device) {
  int64_t batch = 256;
  if (variant.ends_with("base")) batch = 128;
  if (variant == "large") batch = 32;
  if (device.is_cpu()) batch = kCpuBatch;
  if (image_size <= kReferenceSide) return batch;
  const int64_t fitting = batch * kReferenceSide * kReferenceSide / (image_size * image_size);
  int64_t power = 1;
  while (2 * power <= fitting) power *= 2;
  return power;
}

}  // namespace vrwkv::bench

#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace vrwkv::data {

/// Makes the system bring the bytes, which may lie in a mapped file.
inline void touch(std::span<const std::uint8_t> bytes) {
  constexpr std::size_t kPage = 4096;
  unsigned sum = 0;
  for (std::size_t i = 0; i < bytes.size(); i += kPage) sum += bytes[i];
  volatile unsigned keep = sum;
  (void)keep;
}

}  // namespace vrwkv::data

#pragma once

#include <cstdint>

namespace vrwkv::ops {

/// Channels of one head of bi_wkv6, the side of its states. In a header of its own, for options without LibTorch.
inline constexpr int64_t kBiWkv6HeadSize = 64;

}  // namespace vrwkv::ops

#pragma once

#include <c10/core/Device.h>

#include <functional>

namespace vrwkv::bench {

/// Runs `work`; false when it ran out of memory on `device`. Other exceptions pass. The memory that LibTorch keeps for
/// later tensors is given back before and after, so that one case's leftovers do not fail the next: `work` must hold
/// all its tensors itself.
bool fits_in_memory(at::Device device, const std::function<void()>& work);

}  // namespace vrwkv::bench

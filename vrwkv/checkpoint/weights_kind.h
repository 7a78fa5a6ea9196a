#pragma once

namespace vrwkv {

/// Which weights of a training checkpoint: those that were trained, or their moving average.
enum class WeightsKind { raw, ema };

}  // namespace vrwkv

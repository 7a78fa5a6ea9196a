#pragma once

namespace vrwkv {

/// When the CUDA work of a step is recorded as a graph: where that is possible, always (or an error), never.
enum class GraphMode { automatic, on, off };

}  // namespace vrwkv

#pragma once

// at::parallel_for. It is a template of LibTorch's headers: in a source compiled without OpenMP it is a plain loop of
// one thread, whatever LibTorch itself was built with.

#include <ATen/Parallel.h>

#if !defined(INTRA_OP_PARALLEL) && !defined(VRWKV_ONE_THREAD)
#error "at::parallel_for needs OpenMP in the source that calls it; see ops/CMakeLists.txt"
#endif

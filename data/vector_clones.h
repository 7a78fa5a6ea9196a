#pragma once

/// Before a function of plain loops: compiled once for each of these instruction sets, and the best that the processor
/// has is called. Not under the sanitizers of addresses and threads, whose own start comes after that choice.
#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define VRWKV_VECTOR_CLONES [[gnu::target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")]]
#else
#define VRWKV_VECTOR_CLONES
#endif

#pragma once

#include <ATen/Version.h>

#include <string>

namespace vrwkv::ops::cpu {

/// That of a kernel's builds (see ops/CMakeLists.txt) for the best instruction set that LibTorch uses here;
/// ATEN_CPU_CAPABILITY lowers it.
template <typename Kernel>
Kernel* best_kernel(Kernel* any, Kernel* avx2, Kernel* avx512) {
  const std::string capability = at::get_cpu_capability();
  if (capability == "AVX512") return avx512;
  return capability == "AVX2" ? avx2 : any;
}

}  // namespace vrwkv::ops::cpu

/// best_kernel of isa_*::kernel, as far as they are built for this processor.
#if defined(VRWKV_X86_KERNELS)
#define VRWKV_BEST_KERNEL(kernel) best_kernel(isa_default::kernel, isa_avx2::kernel, isa_avx512::kernel)
#else
#define VRWKV_BEST_KERNEL(kernel) best_kernel(isa_default::kernel, isa_default::kernel, isa_default::kernel)
#endif

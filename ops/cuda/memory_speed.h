#pragma once

#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAMacros.h>
#include <cuda_runtime_api.h>

#include <array>
#include <mutex>

namespace vrwkv::ops::cuda {

/// Bytes that the current device's memory moves in a cycle of the multiprocessors, as its clocks and its width promise
/// (two transfers a cycle of the memory). A device is asked once: for a clock the driver can take half a millisecond.
inline double memory_bytes_per_cycle() {
  struct Speed {
    std::once_flag asked;
    double bytes_per_cycle = 0.0;
  };
  static std::array<Speed, C10_COMPILE_TIME_MAX_GPUS> speeds;
  const c10::DeviceIndex device = c10::cuda::current_device();
  Speed& speed = speeds.at(static_cast<size_t>(device));
  std::call_once(speed.asked, [&] {
    const auto attribute = [&](cudaDeviceAttr which) {
      int value = 0;
      C10_CUDA_CHECK(cudaDeviceGetAttribute(&value, which, device));
      return static_cast<double>(value);
    };
    speed.bytes_per_cycle = 2 * attribute(cudaDevAttrMemoryClockRate) / attribute(cudaDevAttrClockRate) *
                            attribute(cudaDevAttrGlobalMemoryBusWidth) / 8;
  });
  return speed.bytes_per_cycle;
}

}  // namespace vrwkv::ops::cuda

#include "bench/device_info.h"

#include <ATen/Parallel.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/DeviceGuard.h>
#include <torch/version.h>
#include <unistd.h>

#include <fstream>
#include <stdexcept>

#if defined(VRWKV_WITH_CUDA)
#include <ATen/cuda/Sleep.h>
#include <c10/cuda/CUDAException.h>
#include <cuda_runtime_api.h>
#endif

namespace vrwkv::bench {
namespace {

constexpr int64_t kGuessedCpuCache = int64_t{32} << 20;

std::string cpu_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with("model name")) continue;
    const std::size_t colon = line.find(": ");
    if (colon != std::string::npos) return line.substr(colon + 2);
  }
  return "CPU";
}

int64_t cpu_cache_bytes() {
  const int64_t bytes = ::sysconf(_SC_LEVEL3_CACHE_SIZE);
  return bytes > 0 ? bytes : kGuessedCpuCache;
}

#if defined(VRWKV_WITH_CUDA)
int attribute(at::Device device, cudaDeviceAttr which) {
  int value = 0;
  C10_CUDA_CHECK(cudaDeviceGetAttribute(&value, which, device.index()));
  return value;
}

std::string gpu_name(at::Device device) {
  cudaDeviceProp properties;
  C10_CUDA_CHECK(cudaGetDeviceProperties(&properties, device.index()));
  return properties.name;
}

int64_t gpu_cache_bytes(at::Device device) { return attribute(device, cudaDevAttrL2CacheSize); }
#else
[[noreturn]] void no_cuda() { throw std::logic_error("a GPU was asked for in a build without CUDA"); }
std::string gpu_name(at::Device) { no_cuda(); }
int64_t gpu_cache_bytes(at::Device) { no_cuda(); }
#endif

}  // namespace

std::string Environment::text() const {
  return "device: " + device + ", " + device_name + "; LibTorch " + libtorch +
         "; CPU threads: " + std::to_string(threads);
}

nlohmann::ordered_json Environment::json() const {
  return {{"device", device}, {"device_name", device_name}, {"libtorch", libtorch}, {"threads", threads}};
}

Environment environment(at::Device device) {
  return {device.str(), device.is_cpu() ? cpu_name() : gpu_name(device), TORCH_VERSION, at::get_num_threads()};
}

int64_t cache_bytes(at::Device device) { return device.is_cpu() ? cpu_cache_bytes() : gpu_cache_bytes(device); }

#if defined(VRWKV_WITH_CUDA)
void hold_queue(at::Device device, double milliseconds) {
  const c10::DeviceGuard guard(device);
  const double kilohertz = attribute(device, cudaDevAttrClockRate);  // cycles a millisecond
  at::cuda::sleep(static_cast<int64_t>(milliseconds * kilohertz));
}
#else
void hold_queue(at::Device, double) { no_cuda(); }
#endif

void reset_peak_memory(at::Device device) {
  if (!device.is_cpu()) c10::getDeviceAllocator(device.type())->resetPeakStats(device.index());
}

std::optional<int64_t> peak_memory(at::Device device) {
  if (device.is_cpu()) return std::nullopt;
  const auto stats = c10::getDeviceAllocator(device.type())->getDeviceStats(device.index());
  constexpr auto kAll = static_cast<std::size_t>(c10::CachingAllocator::StatType::AGGREGATE);
  return stats.allocated_bytes[kAll].peak;
}

void release_cached_memory(at::Device device) {
  if (!device.is_cpu()) c10::getDeviceAllocator(device.type())->emptyCache();
}

}  // namespace vrwkv::bench

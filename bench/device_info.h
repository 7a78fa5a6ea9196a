#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

namespace vrwkv::bench {

/// What a result holds for: printed above every table and written into every file.
struct Environment {
  std::string device;       ///< As --device takes it: cpu, cuda:0.
  std::string device_name;  ///< The maker's.
  std::string libtorch;     ///< Version.
  int threads = 0;          ///< CPU threads of LibTorch.

  std::string text() const;
  nlohmann::ordered_json json() const;
};

/// To be called after the number of threads is set.
Environment environment(at::Device device);

/// Bytes of the last cache that `device` shares among its cores: the L2 of a GPU, the L3 of a CPU (a guess when the
/// system does not tell).
int64_t cache_bytes(at::Device device);

/// Lets the current stream of a GPU do nothing for about so long.
void hold_queue(at::Device device, double milliseconds);

/// Starts a new maximum of the memory that tensors on `device` take. Nothing is counted on the CPU.
void reset_peak_memory(at::Device device);

/// The maximum in bytes; none on the CPU.
std::optional<int64_t> peak_memory(at::Device device);

/// Gives the memory that LibTorch keeps for later tensors back to the GPU.
void release_cached_memory(at::Device device);

}  // namespace vrwkv::bench

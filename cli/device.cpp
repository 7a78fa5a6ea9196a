#include "cli/device.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <string_view>

#include "common/errors.h"
#include "common/log.h"

namespace vrwkv::cli {
namespace {

constexpr std::string_view kIndexed = "cuda:";
constexpr std::size_t kMaxIndexDigits = 2;

std::string why_no_gpu() {
#if defined(VRWKV_WITH_CUDA)
  return "no GPU that its driver and CUDA_VISIBLE_DEVICES offer was found";
#else
  return "this build has no CUDA (configure it where nvcc is found)";
#endif
}

}  // namespace

bool is_device_name(const std::string& name) {
  if (name == "cpu" || name == "cuda" || name == "auto") return true;
  if (!name.starts_with(kIndexed)) return false;
  const std::string_view index = std::string_view(name).substr(kIndexed.size());
  return !index.empty() && index.size() <= kMaxIndexDigits &&
         std::ranges::all_of(index, [](char c) { return c >= '0' && c <= '9'; });
}

at::Device resolve_device(const std::string& name) {
  if (!is_device_name(name)) throw UsageError("the device must be cpu, cuda, cuda:N or auto, got '" + name + "'");
  if (name == "cpu") return at::kCPU;
  const int count = at::hasCUDA() ? static_cast<int>(at::detail::getCUDAHooks().deviceCount()) : 0;
  if (count == 0) {
    if (name == "auto") return at::kCPU;
    throw UsageError("device '" + name + "' was asked for, but " + why_no_gpu() + "; use --device cpu");
  }
  const int index = name.starts_with(kIndexed) ? std::stoi(name.substr(kIndexed.size())) : 0;
  if (index >= count) {
    throw UsageError("device '" + name + "' was asked for, but there " + (count == 1 ? "is" : "are") + " only " +
                     std::to_string(count) + (count == 1 ? " GPU" : " GPUs") + "; use cuda:0" +
                     (count == 1 ? "" : " to cuda:" + std::to_string(count - 1)));
  }
  return {at::kCUDA, static_cast<at::DeviceIndex>(index)};
}

namespace {

/// The GPU of one of several processes.
at::Device own_gpu(const distributed::Launch& launch) {
  const int count = static_cast<int>(at::detail::getCUDAHooks().deviceCount());
  if (count == 1) return {at::kCUDA, 0};  // As Slurm's --gpus-per-task gives them; NCCL refuses a shared one.
  if (launch.local_rank >= count) {
    throw UsageError("rank " + std::to_string(launch.rank) + " is process " + std::to_string(launch.local_rank) +
                     " (from 0) of this host, which has only " + std::to_string(count) +
                     " GPUs; start one process for each");
  }
  return {at::kCUDA, static_cast<at::DeviceIndex>(launch.local_rank)};
}

}  // namespace

distributed::Launch prepare_launch() {
  const distributed::Launch launch = distributed::read_launch();
  if (launch.rank > 0) {
    log::set_level(log::Level::warn);
    log::set_tag("rank " + std::to_string(launch.rank));
  }
  return launch;
}

at::Device prepare_device(const config::RunOptions& options, const distributed::Launch& launch) {
  at::Device device = resolve_device(options.device);
  if (launch.world_size > 1 && device.is_cuda()) {
    if (options.device.starts_with(kIndexed)) {
      throw UsageError("run.device is '" + options.device + "', but " + std::to_string(launch.world_size) +
                       " processes were started; set it to cuda, each takes its own");
    }
    device = own_gpu(launch);
    c10::impl::VirtualGuardImpl(at::kCUDA).setDevice(device);
  }
  if (options.threads > 0) at::set_num_threads(static_cast<int>(options.threads));
  // "high" is LibTorch's name for TF32, "highest" for float32 throughout.
  at::globalContext().setFloat32MatmulPrecision(options.tf32 ? "high" : "highest");
  return device;
}

}  // namespace vrwkv::cli

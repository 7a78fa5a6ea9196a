#include "data/gpu/make_stage.h"

#include <c10/util/Exception.h>

#include <string>

#include "common/errors.h"
#include "common/log.h"

#ifdef VRWKV_WITH_NVJPEG
#include "data/gpu/gpu_stage.h"
#endif

namespace vrwkv::data::gpu {
namespace {

[[noreturn]] void refuse(const std::string& reason) {
  throw UsageError("data.decode is gpu, but " + reason + ", or set data.decode to cpu or auto");
}

#ifdef VRWKV_WITH_NVJPEG
std::string message_of(const std::exception& error) {
  const auto* const of_torch = dynamic_cast<const c10::Error*>(&error);
  return of_torch != nullptr ? of_torch->what_without_backtrace() : error.what();
}

std::shared_ptr<DeviceStage> start(const DataOptions& options, int64_t size, c10::Device device) {
  PrepareOptions prepare;
  prepare.transform = options.train_transform;
  prepare.transform.size = size;
  prepare.device_share = options.gpu_share;
  return std::make_shared<GpuStage>(prepare, device);
}
#endif

}  // namespace

bool built_for_gpu() {
#ifdef VRWKV_WITH_NVJPEG
  return true;
#else
  return false;
#endif
}

std::shared_ptr<DeviceStage> make_stage(const DataOptions& options, [[maybe_unused]] int64_t size, c10::Device device) {
  if (options.decode == DecodeDevice::cpu) return nullptr;
  const bool demanded = options.decode == DecodeDevice::gpu;
  if (!device.is_cuda()) {
    if (demanded) refuse("the run's device is " + device.str() + "; run on a GPU (run.device: cuda)");
    return nullptr;
  }
#ifdef VRWKV_WITH_NVJPEG
  try {
    return start(options, size, device);
  } catch (const std::exception& error) {
    if (demanded) refuse("the GPU cannot be used for it: " + message_of(error) + "; update the GPU's driver");
    log::warn("images are decoded on the CPU: " + message_of(error));
    return nullptr;
  }
#else
  if (demanded) {
    refuse(
        "this program was built without nvJPEG; install it (scripts/setup.sh does, or pip install nvidia-nvjpeg in "
        "LibTorch's environment, or CUDA's package libnvjpeg-dev) and build again");
  }
  return nullptr;
#endif
}

#ifdef VRWKV_WITH_NVJPEG
DeviceTimes times_of(const DeviceStage& stage) { return dynamic_cast<const GpuStage&>(stage).times(); }
#else
DeviceTimes times_of(const DeviceStage& /*stage*/) { return {}; }
#endif

}  // namespace vrwkv::data::gpu

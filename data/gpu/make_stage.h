#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <memory>

#include "data/device_stage.h"
#include "data/gpu/device_times.h"
#include "data/options.h"

namespace vrwkv::data::gpu {

/// What does the training samples of size x size as options.decode says: the GPU `device`, or nothing for the loader's
/// threads. Throws UsageError for DecodeDevice::gpu when `device` is no GPU, when the program was built without CUDA or
/// nvJPEG, and when nvJPEG cannot be started; DecodeDevice::automatic then leaves it to the threads, in the last case
/// with a warning.
std::shared_ptr<DeviceStage> make_stage(const DataOptions& options, int64_t size, c10::Device device);

/// Whether this program can decode on a GPU at all.
bool built_for_gpu();

/// How long a stage of make_stage() has worked.
DeviceTimes times_of(const DeviceStage& stage);

}  // namespace vrwkv::data::gpu

#include "data/gpu/nvjpeg.h"

#include <array>
#include <stdexcept>
#include <vector>

namespace vrwkv::data::gpu {
namespace {

std::string status_text(nvjpegStatus_t status) {
  switch (status) {
    case NVJPEG_STATUS_NOT_INITIALIZED:
      return "not initialised";
    case NVJPEG_STATUS_INVALID_PARAMETER:
      return "invalid parameter";
    case NVJPEG_STATUS_BAD_JPEG:
      return "bad JPEG";
    case NVJPEG_STATUS_JPEG_NOT_SUPPORTED:
      return "JPEG not supported";
    case NVJPEG_STATUS_ALLOCATOR_FAILURE:
      return "out of memory";
    case NVJPEG_STATUS_EXECUTION_FAILED:
      return "execution failed";
    case NVJPEG_STATUS_ARCH_MISMATCH:
      return "not for this GPU";
    case NVJPEG_STATUS_INCOMPLETE_BITSTREAM:
      return "incomplete data";
    default:
      return "status " + std::to_string(static_cast<int>(status));
  }
}

/// Colours between stored ones are interpolated, as libjpeg does.
nvjpegStatus_t create(nvjpegBackend_t backend, nvjpegHandle_t& handle) {
  return nvjpegCreateEx(backend, nullptr, nullptr, NVJPEG_FLAGS_UPSAMPLING_WITH_INTERPOLATION, &handle);
}

}  // namespace

NvJpeg::NvJpeg() {
  nvjpegHandle_t handle = nullptr;
  hardware_ = create(NVJPEG_BACKEND_HARDWARE, handle) == NVJPEG_STATUS_SUCCESS;
  if (!hardware_) {
    const nvjpegStatus_t status = create(NVJPEG_BACKEND_GPU_HYBRID, handle);
    if (status != NVJPEG_STATUS_SUCCESS) throw std::runtime_error("nvJPEG cannot be started: " + status_text(status));
  }
  handle_.reset(handle);
}

bool NvJpeg::agrees(std::span<const std::uint8_t> bytes, int64_t height, int64_t width) const {
  int components = 0;
  nvjpegChromaSubsampling_t sampling = NVJPEG_CSS_UNKNOWN;
  std::array<int, NVJPEG_MAX_COMPONENT> widths{}, heights{};
  const nvjpegStatus_t status = nvjpegGetImageInfo(handle_.get(), bytes.data(), bytes.size(), &components, &sampling,
                                                   widths.data(), heights.data());
  return status == NVJPEG_STATUS_SUCCESS && components == 3 && widths[0] == width && heights[0] == height;
}

JpegBatchDecoder::JpegBatchDecoder(std::shared_ptr<const NvJpeg> library) : library_(std::move(library)) {
  make_state();
}

void JpegBatchDecoder::make_state() {
  state_.reset();
  nvjpegJpegState_t state = nullptr;
  const nvjpegStatus_t status = nvjpegJpegStateCreate(library_->handle(), &state);
  if (status != NVJPEG_STATUS_SUCCESS) throw std::runtime_error("nvJPEG makes no decoder: " + status_text(status));
  state_.reset(state);
}

std::string JpegBatchDecoder::decode(std::span<const JpegTask> tasks, cudaStream_t stream) {
  if (tasks.empty()) return {};
  std::vector<const unsigned char*> data;
  std::vector<std::size_t> lengths;
  std::vector<nvjpegImage_t> targets;
  for (const JpegTask& task : tasks) {
    data.push_back(task.bytes.data());
    lengths.push_back(task.bytes.size());
    nvjpegImage_t image{};
    image.channel[0] = task.target;
    image.pitch[0] = task.stride;
    targets.push_back(image);
  }
  nvjpegStatus_t status =
      nvjpegDecodeBatchedInitialize(library_->handle(), state_.get(), static_cast<int>(tasks.size()),
                                    /*max_cpu_threads=*/1, NVJPEG_OUTPUT_RGBI);
  if (status == NVJPEG_STATUS_SUCCESS) {
    status = nvjpegDecodeBatched(library_->handle(), state_.get(), data.data(), lengths.data(), targets.data(), stream);
  }
  if (status == NVJPEG_STATUS_SUCCESS) return {};
  cudaStreamSynchronize(stream);  // Of whatever was queued; its result does not count.
  make_state();
  return status_text(status);
}

}  // namespace vrwkv::data::gpu

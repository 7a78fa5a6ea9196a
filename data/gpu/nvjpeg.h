#pragma once

#include <cuda_runtime_api.h>
#include <nvjpeg.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace vrwkv::data::gpu {

/// nvJPEG on the current device: the decoder engines where the GPU has them (A100, H100 and later), else its kernels.
class NvJpeg {
 public:
  /// Throws std::runtime_error, with nvJPEG's reason, when it cannot be started.
  NvJpeg();

  nvjpegHandle_t handle() const { return handle_.get(); }

  /// Whether nvJPEG, too, finds a colour image of height x width in the JPEG's header: its decoder writes so much. From
  /// several threads at once.
  bool agrees(std::span<const std::uint8_t> bytes, int64_t height, int64_t width) const;

  /// Whether the engines decode.
  bool hardware() const { return hardware_; }

 private:
  struct Destroy {
    void operator()(nvjpegHandle_t handle) const { nvjpegDestroy(handle); }
  };
  std::unique_ptr<nvjpegHandle, Destroy> handle_;
  bool hardware_ = false;
};

/// A JPEG to decode, is_baseline_jpeg(), and where to.
struct JpegTask {
  std::span<const std::uint8_t> bytes;  ///< Must stay until the stream has done its work.
  std::uint8_t* target = nullptr;       ///< On the device: height x stride bytes.
  std::size_t stride = 0;               ///< Bytes from a row to the next, at least 3 * width.
};

/// Decodes batches on one stream at a time. Used by one thread at a time; several of them work side by side.
class JpegBatchDecoder {
 public:
  explicit JpegBatchDecoder(std::shared_ptr<const NvJpeg> library);

  /// Queues the decoding of `tasks` to RGB on `stream`. Returns why that failed, empty if it did not; then nothing is
  /// known about any of the targets, and the next batch starts anew.
  std::string decode(std::span<const JpegTask> tasks, cudaStream_t stream);

 private:
  struct Destroy {
    void operator()(nvjpegJpegState_t state) const { nvjpegJpegStateDestroy(state); }
  };
  void make_state();

  std::shared_ptr<const NvJpeg> library_;
  std::unique_ptr<nvjpegJpegState, Destroy> state_;
};

}  // namespace vrwkv::data::gpu

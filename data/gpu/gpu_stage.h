#pragma once

#include <ATen/cuda/CUDAEvent.h>
#include <c10/cuda/CUDAStream.h>

#include <array>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <vector>

#include "data/device_stage.h"
#include "data/gpu/device_times.h"
#include "data/gpu/nvjpeg.h"
#include "data/gpu/view_batch.h"

namespace vrwkv::data::gpu {

/// Training samples on a GPU: JPEGs decoded by nvJPEG, crop, resize, flip and augmentation by kernels. A few groups are
/// on their way at once, each in a lane with a stream of its own.
class GpuStage final : public DeviceStage {
 public:
  /// `device` is a GPU. Throws std::runtime_error when nvJPEG cannot be started there.
  GpuStage(const PrepareOptions& options, at::Device device);

  int64_t size() const override { return options_.transform.size; }
  int64_t group_size() const override { return kGroup; }
  int64_t waiting_threads() const override { return kLanes; }
  at::Tensor allocate(int64_t count) override;
  PreparedSample prepare(const Dataset& dataset, int64_t view, std::uint64_t seed, int64_t epoch,
                         CorruptPolicy policy) const override;
  void render(std::span<PreparedSample> samples, const at::Tensor& images,
              const std::function<LoadedSample(int64_t view)>& on_cpu) override;
  void hand_over(const at::Tensor& images) override;

  /// Whether the GPU's decoder engines are used.
  bool hardware() const { return library_->hardware(); }

  /// Of all groups so far.
  DeviceTimes times() const;

 private:
  static constexpr int64_t kGroup = 64;                      ///< Several images for each decoder engine.
  static constexpr int kLanes = 3;                           ///< One that is fed, one that decodes, one that augments.
  static constexpr int64_t kMaxBytes = int64_t{256} << 20U;  ///< Of memory_of() in a lane, if it has several samples.

  /// Events around the steps of a group; the thread sleeps until the last one.
  enum Step { kBegin, kDecoded, kResized, kAugmented, kSteps };

  struct Lane {
    Lane(std::shared_ptr<const NvJpeg> library, at::Device device);

    c10::cuda::CUDAStream stream;
    JpegBatchDecoder decoder;
    std::array<at::cuda::CUDAEvent, kSteps> events;
  };

  /// A lane for one thread, waited for if need be, and given back.
  class Lease {
   public:
    explicit Lease(GpuStage& stage);
    ~Lease();
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;

    Lane& operator*() const { return *lane_; }

   private:
    GpuStage& stage_;
    std::unique_ptr<Lane> lane_;
  };

  int64_t memory_of(const PreparedSample& sample) const;
  void render_part(Lane& lane, std::span<PreparedSample> samples, std::uint8_t* rows,
                   const std::function<LoadedSample(int64_t view)>& on_cpu);
  void decode(Lane& lane, std::span<PreparedSample> samples, std::span<std::uint8_t* const> places,
              const std::function<LoadedSample(int64_t view)>& on_cpu);
  void count(const Lane& lane, int64_t images, int64_t decoded);

  const PrepareOptions options_;
  const at::Device device_;
  const std::shared_ptr<const NvJpeg> library_;
  const c10::cuda::CUDAStream batches_;  ///< Whose memory the batches are; nothing is ever queued on it.

  mutable std::mutex mutex_;
  std::condition_variable lane_free_;
  // Guarded by mutex_ from here on.
  std::vector<std::unique_ptr<Lane>> lanes_;  ///< Those that are free.
  DeviceTimes times_;
  bool warned_ = false;  ///< That nvJPEG failed at something.
};

}  // namespace vrwkv::data::gpu

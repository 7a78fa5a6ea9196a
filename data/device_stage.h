#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <span>

#include "data/prepared_sample.h"

namespace vrwkv::data {

/// The half of a training sample's way that a device does, in a loader: threads prepare() samples, and the one that
/// completes a group of a batch calls render() for it. Unless said otherwise, methods are called from several threads
/// at once.
class DeviceStage {
 public:
  DeviceStage() = default;
  virtual ~DeviceStage() = default;
  DeviceStage(const DeviceStage&) = delete;
  DeviceStage& operator=(const DeviceStage&) = delete;

  /// Side in pixels of the samples.
  virtual int64_t size() const = 0;

  /// Samples that one render() gets, at least 1.
  virtual int64_t group_size() const = 0;

  /// Threads that wait in render() at once, without work for the CPU: a loader starts as many more.
  virtual int64_t waiting_threads() const = 0;

  /// Room for the images of a batch, uint8 [count, size, size, 3] on the device; from the loader's caller's thread.
  virtual at::Tensor allocate(int64_t count) = 0;

  /// The sample, its part of the work for the CPU done. Throws as load_sample() does.
  virtual PreparedSample prepare(const Dataset& dataset, int64_t view, std::uint64_t seed, int64_t epoch,
                                 CorruptPolicy policy) const = 0;

  /// Fills `images`, one row of allocate()'s for each of `samples`, and returns when the pixels are there. A sample
  /// that the device cannot do after all is replaced by what `on_cpu` makes of the requested view, or gets an `error`;
  /// rows of samples with an error are left as they are.
  virtual void render(std::span<PreparedSample> samples, const at::Tensor& images,
                      const std::function<LoadedSample(int64_t view)>& on_cpu) = 0;

  /// `images` of allocate() are about to be used on the calling thread's stream; from the loader's caller's thread.
  virtual void hand_over(const at::Tensor& images) = 0;
};

}  // namespace vrwkv::data

#include "data/gpu/gpu_stage.h"

#include <ATen/ops/empty.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>

#include <cstring>
#include <optional>
#include <utility>

#include "common/log.h"

namespace vrwkv::data::gpu {
namespace {

constexpr int64_t kChannels = 3;

/// Bytes of device memory for what the sample begins with.
int64_t device_bytes(const PreparedSample& sample) {
  if (sample.error || sample.sample.image.defined()) return 0;
  return sample.pixels.defined() ? sample.pixels.numel() : sample.height * sample.width * kChannels;
}

/// Bytes of a row of these.
int64_t stride_of(const PreparedSample& sample) {
  return kChannels * (sample.pixels.defined() ? sample.pixels.size(1) : sample.width);
}

bool begins_encoded(const PreparedSample& sample) {
  return !sample.error && !sample.sample.image.defined() && !sample.pixels.defined();
}

void to_device(std::uint8_t* to, const at::Tensor& from) {
  C10_CUDA_CHECK(cudaMemcpyAsync(to, from.const_data_ptr(), static_cast<std::size_t>(from.numel()),
                                 cudaMemcpyHostToDevice, c10::cuda::getCurrentCUDAStream()));
}

/// The same in pinned memory, copied by this thread alone: ATen's copy would start a pool of threads for it.
at::Tensor pinned(const at::Tensor& pixels) {
  at::Tensor copy = at::empty(pixels.sizes(), pixels.options().pinned_memory(true));
  std::memcpy(copy.mutable_data_ptr(), pixels.const_data_ptr(), static_cast<std::size_t>(pixels.numel()));
  return copy;
}

/// A NvJpeg for `device`.
std::shared_ptr<const NvJpeg> start_library(at::Device device) {
  const c10::cuda::CUDAGuard guard(device);
  return std::make_shared<const NvJpeg>();
}

/// The device with its number.
at::Device numbered(at::Device device) {
  return device.has_index() ? device : at::Device(device.type(), c10::cuda::current_device());
}

}  // namespace

GpuStage::Lane::Lane(std::shared_ptr<const NvJpeg> library, at::Device device)
    : stream(c10::cuda::getStreamFromPool(/*isHighPriority=*/false, device.index())),
      decoder(std::move(library)),
      events{at::cuda::CUDAEvent(cudaEventBlockingSync), at::cuda::CUDAEvent(cudaEventBlockingSync),
             at::cuda::CUDAEvent(cudaEventBlockingSync), at::cuda::CUDAEvent(cudaEventBlockingSync)} {}

GpuStage::GpuStage(const PrepareOptions& options, at::Device device)
    : options_(options),
      device_(numbered(device)),
      library_(start_library(device_)),
      batches_(c10::cuda::getStreamFromPool(/*isHighPriority=*/false, device_.index())) {
  const c10::cuda::CUDAGuard guard(device_);
  for (int i = 0; i < kLanes; ++i) lanes_.push_back(std::make_unique<Lane>(library_, device_));
}

GpuStage::Lease::Lease(GpuStage& stage) : stage_(stage) {
  std::unique_lock lock(stage_.mutex_);
  stage_.lane_free_.wait(lock, [this] { return !stage_.lanes_.empty(); });
  lane_ = std::move(stage_.lanes_.back());
  stage_.lanes_.pop_back();
}

GpuStage::Lease::~Lease() {
  {
    const std::lock_guard lock(stage_.mutex_);
    stage_.lanes_.push_back(std::move(lane_));
  }
  stage_.lane_free_.notify_one();
}

/// From the memory of a stream without work: hand_over() makes the allocator wait for the user's stream before it gives
/// the memory out again, and a lane may then write to it at once.
at::Tensor GpuStage::allocate(int64_t count) {
  const c10::cuda::CUDAStreamGuard guard(batches_);
  return at::empty({count, size(), size(), kChannels}, at::TensorOptions().dtype(at::kByte).device(device_));
}

void GpuStage::hand_over(const at::Tensor& images) {
  c10::cuda::CUDACachingAllocator::recordStream(images.storage().data_ptr(),
                                                c10::cuda::getCurrentCUDAStream(device_.index()));
}

PreparedSample GpuStage::prepare(const Dataset& dataset, int64_t view, std::uint64_t seed, int64_t epoch,
                                 CorruptPolicy policy) const {
  PreparedSample prepared = prepare_sample(dataset, view, options_, seed, epoch, policy);
  if (begins_encoded(prepared) && !library_->agrees(prepared.source.bytes, prepared.height, prepared.width)) {
    PrepareOptions on_cpu = options_;
    on_cpu.device_share = 0;
    prepared = prepare_sample(dataset, view, on_cpu, seed, epoch, policy);
  }
  if (prepared.pixels.defined()) prepared.pixels = pinned(prepared.pixels);
  return prepared;
}

/// Bytes of device memory for the sample on its way: what it begins with, and its rows with their final width.
int64_t GpuStage::memory_of(const PreparedSample& sample) const {
  const int64_t bytes = device_bytes(sample);
  return bytes == 0 ? 0 : bytes + sample.view.box.height * size() * kChannels;
}

void GpuStage::render(std::span<PreparedSample> samples, const at::Tensor& images,
                      const std::function<LoadedSample(int64_t view)>& on_cpu) {
  const Lease lane(*this);
  const c10::cuda::CUDAStreamGuard guard((*lane).stream);
  auto* rows = images.mutable_data_ptr<std::uint8_t>();
  const int64_t row_bytes = size() * size() * kChannels;
  for (std::size_t first = 0, last = 0; first < samples.size(); first = last) {
    int64_t bytes = 0;
    do {
      bytes += memory_of(samples[last++]);
    } while (last < samples.size() && bytes + memory_of(samples[last]) <= kMaxBytes);
    render_part(*lane, samples.subspan(first, last - first), rows + static_cast<int64_t>(first) * row_bytes, on_cpu);
  }
}

void GpuStage::render_part(Lane& lane, std::span<PreparedSample> samples, std::uint8_t* rows,
                           const std::function<LoadedSample(int64_t view)>& on_cpu) {
  int64_t bytes = 0, decoded = 0;
  for (const PreparedSample& sample : samples) {
    bytes += device_bytes(sample);
    decoded += begins_encoded(sample) ? 1 : 0;
  }
  const at::Tensor memory = at::empty({bytes}, at::TensorOptions().dtype(at::kByte).device(device_));
  auto* place = memory.mutable_data_ptr<std::uint8_t>();
  std::vector<std::uint8_t*> places;
  for (const PreparedSample& sample : samples) {
    places.push_back(place);
    place += device_bytes(sample);
  }
  lane.events[kBegin].record(lane.stream);
  decode(lane, samples, places, on_cpu);
  std::vector<DeviceView> work;
  for (std::size_t i = 0; i < samples.size(); ++i) {
    const PreparedSample& sample = samples[i];
    std::uint8_t* const target = rows + static_cast<int64_t>(i) * size() * size() * kChannels;
    if (sample.error) continue;
    if (sample.sample.image.defined()) {
      to_device(target, sample.sample.image);
      continue;
    }
    const Box& box = sample.view.box;
    const int64_t stride = stride_of(sample);
    if (sample.pixels.defined()) to_device(places[i], sample.pixels);
    work.push_back({places[i] + box.top * stride + box.left * kChannels, stride, &sample.view, target});
  }
  lane.events[kDecoded].record(lane.stream);
  std::optional<ViewBatch> batch;
  if (!work.empty()) batch.emplace(work, size(), device_);
  if (batch) batch->resize();
  lane.events[kResized].record(lane.stream);
  if (batch) batch->augment();
  lane.events[kAugmented].record(lane.stream);
  lane.events[kAugmented].synchronize();
  count(lane, std::ssize(samples), decoded);
}

/// Queues the decoding of what begins encoded; where that fails, the CPU does all of it.
void GpuStage::decode(Lane& lane, std::span<PreparedSample> samples, std::span<std::uint8_t* const> places,
                      const std::function<LoadedSample(int64_t view)>& on_cpu) {
  std::vector<JpegTask> tasks;
  for (std::size_t i = 0; i < samples.size(); ++i) {
    if (!begins_encoded(samples[i])) continue;
    tasks.push_back({samples[i].source.bytes, places[i], static_cast<std::size_t>(stride_of(samples[i]))});
  }
  const std::string failure = lane.decoder.decode(tasks, lane.stream);
  if (failure.empty()) return;
  bool warn = false;
  {
    const std::lock_guard lock(mutex_);
    warn = !std::exchange(warned_, true);
  }
  if (warn) {
    log::warn("nvJPEG could not decode a group of " + std::to_string(tasks.size()) + " images (" + failure +
              "), with " + samples.front().sample.name + " among its samples; the CPU decodes it. Not reported again");
  }
  for (PreparedSample& sample : samples) {
    if (!begins_encoded(sample)) continue;
    try {
      sample.sample = on_cpu(sample.requested);
    } catch (...) {
      sample.error = std::current_exception();
    }
  }
}

void GpuStage::count(const Lane& lane, int64_t images, int64_t decoded) {
  const auto seconds = [&](Step from, Step to) {
    return 1e-3 * static_cast<double>(lane.events[from].elapsed_time(lane.events[to]));
  };
  const std::lock_guard lock(mutex_);
  times_.images += images;
  times_.decoded += decoded;
  times_.decode_seconds += seconds(kBegin, kDecoded);
  times_.resize_seconds += seconds(kDecoded, kResized);
  times_.augment_seconds += seconds(kResized, kAugmented);
}

DeviceTimes GpuStage::times() const {
  const std::lock_guard lock(mutex_);
  return times_;
}

}  // namespace vrwkv::data::gpu

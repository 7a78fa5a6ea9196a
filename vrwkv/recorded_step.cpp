#include "vrwkv/recorded_step.h"

#include <stdexcept>

#include "common/errors.h"
#include "common/log.h"

#ifdef VRWKV_WITH_CUDA
#include <ATen/cuda/CUDAEvent.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#endif

namespace vrwkv {

#ifdef VRWKV_WITH_CUDA

/// A stream of its own, as the default one cannot be recorded, and what was recorded on it.
struct RecordedStep::Graph {
  /// Calls before the recording: they load kernels, make the libraries' workspaces and fill autocast's cache.
  static constexpr int kWarmUp = 3;

  explicit Graph(at::Device device)
      : stream(c10::cuda::getStreamFromPool(/*isHighPriority=*/false,
                                            device.has_index() ? device.index() : c10::DeviceIndex(0))) {}

  void run(const std::function<void()>& body) {
    const c10::cuda::CUDAGuard device(stream.device());
    const c10::cuda::CUDAStream outer = c10::cuda::getCurrentCUDAStream();
    wait(stream, outer);
    {
      const c10::cuda::CUDAStreamGuard guard(stream);
      if (!failed() && !recording && calls >= kWarmUp) record(body);
      ++calls;
      if (recording) {
        recording->replay();
      } else {
        body();
      }
    }
    wait(outer, stream);
  }

  /// Leaves `reason` instead of a recording when that fails.
  void record(const std::function<void()>& body) {
    c10::cuda::CUDACachingAllocator::emptyCache();  // The recording has memory of its own.
    auto attempt = std::make_unique<at::cuda::CUDAGraph>();
    // Only this thread's work is recorded: the loader's threads may pin memory meanwhile.
    attempt->capture_begin({0, 0}, cudaStreamCaptureModeThreadLocal);
    try {
      body();
    } catch (const std::exception& error) {
      reason = error.what();
    }
    try {
      attempt->capture_end();
    } catch (const std::exception& error) {
      if (reason.empty()) reason = error.what();
    }
    if (!failed()) recording = std::move(attempt);
  }

  bool failed() const { return !reason.empty(); }

  static void wait(const c10::cuda::CUDAStream& waiting, const c10::cuda::CUDAStream& awaited) {
    at::cuda::CUDAEvent event;
    event.record(awaited);
    event.block(waiting);
  }

  c10::cuda::CUDAStream stream;
  std::unique_ptr<at::cuda::CUDAGraph> recording;
  int calls = 0;
  std::string reason;  ///< Why recording failed, if it did.
};

bool RecordedStep::recorded() const { return graph_ && graph_->recording; }

void RecordedStep::operator()() {
  if (!graph_) {
    body_();
    return;
  }
  graph_->run(body_);
  if (graph_->failed()) warn_or_throw(graph_->reason);
}

#else

struct RecordedStep::Graph {
  explicit Graph(at::Device) {}
};

bool RecordedStep::recorded() const { return false; }

void RecordedStep::operator()() { body_(); }

#endif

RecordedStep::RecordedStep(std::function<void()> body, at::Device device, GraphMode mode)
    : body_(std::move(body)), mode_(mode) {
  if (mode == GraphMode::on && !device.is_cuda()) {
    throw UsageError("cuda_graph is 'on', but the device is " + device.str() + "; choose a CUDA device, or 'auto'");
  }
  if (mode != GraphMode::off && device.is_cuda()) graph_ = std::make_unique<Graph>(device);
}

RecordedStep::~RecordedStep() = default;
RecordedStep::RecordedStep(RecordedStep&&) noexcept = default;
RecordedStep& RecordedStep::operator=(RecordedStep&&) noexcept = default;

void RecordedStep::warn_or_throw(const std::string& reason) {
  const std::string what = "the step could not be recorded as a CUDA graph: " + reason.substr(0, reason.find('\n'));
  if (mode_ == GraphMode::on) throw std::runtime_error(what + "; set cuda_graph to 'auto' or 'off'");
  log::warn(what + "; it goes on without");
  graph_.reset();
}

}  // namespace vrwkv

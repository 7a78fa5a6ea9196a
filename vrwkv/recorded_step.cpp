#include "vrwkv/recorded_step.h"

#include <c10/util/Exception.h>

#include <stdexcept>

#include "common/errors.h"
#include "common/log.h"

#ifdef VRWKV_WITH_CUDA
#include <ATen/core/CachingHostAllocator.h>
#include <ATen/cuda/CUDAEvent.h>
#include <ATen/cuda/CUDAGeneratorImpl.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#endif

namespace vrwkv {

#ifdef VRWKV_WITH_CUDA

namespace {

/// LibTorch's graph, which also finds its way out of a recording that CUDA has declared invalid: LibTorch 2.11 throws
/// then before it has cleaned up, so that the random generator and the allocators would stay in recording mode, where
/// their next use fails.
class Recording : public at::cuda::CUDAGraph {
 public:
  /// Only this thread's work is recorded: the loader's threads may pin memory meanwhile.
  void begin() { capture_begin(/*pool=*/{0, 0}, cudaStreamCaptureModeThreadLocal); }

  void end() {
    try {
      capture_end();
    } catch (...) {
      if (!capture_ended_) abandon();
      throw;
    }
  }

 private:
  void abandon() {
    static_cast<void>(cudaGetLastError());  // The next launch would report it.
    for (const auto& [state, increment] : captured_generator_states_) state->capturing_ = false;
    c10::cuda::CUDACachingAllocator::endAllocateToPool(capture_dev_, mempool_id_);
    c10::cuda::CUDACachingAllocator::releasePool(capture_dev_, mempool_id_);
    auto* const pinned = at::getHostAllocator(at::kCUDA);
    pinned->end_allocate_to_pool(mempool_id_);
    pinned->release_pool(mempool_id_);
  }
};

}  // namespace

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
      if (!failure && !recording && calls >= kWarmUp) record(body);
      ++calls;
      if (recording) {
        recording->replay();
      } else {
        body();
      }
    }
    wait(outer, stream);
  }

  /// Leaves `failure` instead of a recording when that fails.
  void record(const std::function<void()>& body) {
    c10::cuda::CUDACachingAllocator::emptyCache();  // The recording has memory of its own.
    auto attempt = std::make_unique<Recording>();
    try {
      attempt->begin();
      try {
        body();
      } catch (const std::exception&) {
        failure = std::current_exception();
      }
      attempt->end();
    } catch (const std::exception&) {
      if (!failure) failure = std::current_exception();  // Otherwise only a consequence.
    }
    if (!failure) recording = std::move(attempt);
  }

  static void wait(const c10::cuda::CUDAStream& waiting, const c10::cuda::CUDAStream& awaited) {
    at::cuda::CUDAEvent event;
    event.record(awaited);
    event.block(waiting);
  }

  c10::cuda::CUDAStream stream;
  std::unique_ptr<Recording> recording;
  int calls = 0;
  std::exception_ptr failure;  ///< Why recording failed, if it did.
};

bool RecordedStep::recorded() const { return graph_ && graph_->recording; }

void RecordedStep::record_anew() {
  if (!graph_) return;
  graph_->recording.reset();
  graph_->calls = 0;
}

void RecordedStep::operator()() {
  if (!graph_) {
    body_();
    return;
  }
  graph_->run(body_);
  if (graph_->failure) give_up(graph_->failure);
}

#else

struct RecordedStep::Graph {
  explicit Graph(at::Device) {}
};

bool RecordedStep::recorded() const { return false; }

void RecordedStep::record_anew() {}

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

void RecordedStep::give_up(const std::exception_ptr& failure) {
  try {
    std::rethrow_exception(failure);
  } catch (const c10::OutOfMemoryError&) {
    if (mode_ == GraphMode::on) throw;  // Says itself what to do.
    log::warn("no memory is left to record the step as a CUDA graph; it goes on without");
  } catch (const std::exception& error) {
    const std::string text = error.what();
    const std::string what = "the step could not be recorded as a CUDA graph: " + text.substr(0, text.find('\n'));
    if (mode_ == GraphMode::on) throw std::runtime_error(what + "; set cuda_graph to 'auto' or 'off'");
    log::warn(what + "; it goes on without");
  }
  graph_.reset();
}

}  // namespace vrwkv

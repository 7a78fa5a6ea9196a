#pragma once

#include <c10/core/Device.h>

#include <exception>
#include <functional>
#include <memory>

#include "vrwkv/graph_mode.h"

namespace vrwkv {

/// A step that is run again and again on tensors at fixed addresses. On CUDA its first calls run as they are; then its
/// work is recorded as a CUDA graph, and from there on a call is one launch, however many kernels the step has.
///
/// The step must do the same work each time, take what varies from tensors made before it (inputs, learning rate),
/// leave its results in tensors that outlive it, and not wait for the device. Random numbers are drawn anew in each
/// call, as torch::manual_seed() says. Results keep their addresses: read or copy them before the next call.
class RecordedStep {
 public:
  /// Throws UsageError for `on` without CUDA.
  RecordedStep(std::function<void()> body, at::Device device, GraphMode mode);
  ~RecordedStep();
  RecordedStep(RecordedStep&&) noexcept;
  RecordedStep& operator=(RecordedStep&&) noexcept;

  /// One step. Should recording fail, `automatic` warns once and goes on without; `on` throws std::runtime_error
  /// (c10::OutOfMemoryError where memory ran out).
  void operator()();

  /// Forgets the recording, for inputs of another shape or at other places: the next calls run as the first ones did.
  void record_anew();

  /// Whether calls are launches of the recorded graph by now.
  bool recorded() const;

 private:
  struct Graph;
  void give_up(const std::exception_ptr& failure);

  std::function<void()> body_;
  GraphMode mode_;
  std::unique_ptr<Graph> graph_;  ///< Null: every call runs the body.
};

}  // namespace vrwkv

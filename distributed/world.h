#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/intrusive_ptr.h>

#include <chrono>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "distributed/launch.h"

namespace c10d {
class ProcessGroup;
}

namespace vrwkv::distributed {

/// This process stops because another one failed, which says why.
class PeerFailure : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// The processes of a run. They meet at a store (c10d's TCPStore); numbers on the CPU travel through Gloo, gradients
/// through NCCL on GPUs. A process on its own needs none of that: every operation returns at once.
///
/// All processes call the same operations in the same order. A peer that has died or does not answer within the timeout
/// ends an operation with std::runtime_error that names it.
class World {
 public:
  /// A process on its own.
  World();

  /// Meets the others. Throws std::runtime_error when that takes longer than `timeout`, with what to check.
  World(const Launch& launch, std::chrono::seconds timeout);
  ~World();
  World(World&&) noexcept;
  World& operator=(World&&) noexcept;

  int64_t rank() const { return launch_.rank; }
  int64_t size() const { return launch_.world_size; }
  int64_t local_size() const { return launch_.local_size; }  ///< Processes of this host.
  bool is_main() const { return rank() == 0; }

  /// Adds up `tensor` (CPU, any dtype) over the processes, in place.
  void sum(at::Tensor tensor);

  /// Every process's `tensor`, by rank: CPU, of the same shape and dtype everywhere.
  std::vector<at::Tensor> gather(const at::Tensor& tensor);

  /// Copies the values of process `root` into `tensors` of all processes; on the CPU or on the device of
  /// device_group(). They have the same shapes everywhere.
  void broadcast(std::vector<at::Tensor> tensors, int64_t root = 0);

  /// broadcast() of a text.
  std::string broadcast(const std::string& text);

  /// Runs `body` in rank 0 while the others wait. When it throws, so does this: its exception in rank 0, PeerFailure in
  /// the others.
  void in_main(const std::function<void()>& body);

  /// Whether `flag` is true in any process. The answer is the one of the former call (false at first), so that nobody
  /// waits: meanwhile the present one travels.
  bool any_so_far(bool flag);

  /// The group that reduces tensors of `device`: NCCL's for CUDA, Gloo's for the CPU. Made at the first call. Null for
  /// a process on its own.
  c10::intrusive_ptr<c10d::ProcessGroup> device_group(at::Device device);

  /// Says what this process does from now on ("reading data"), for the messages of others that wait for it in vain.
  /// `needs_others`: it cannot end without them, as a training step, so that its time counts against the timeout.
  void enter(const std::string& stage, bool needs_others = false);

  /// Runs `body`, all of it between two operations of this class; should it throw because others are missing, the error
  /// names them.
  void guard(const std::function<void()>& body);

  /// Tells the others why this process ends before they do, so that they end with that reason.
  void tell_failure(const std::exception& error);

  /// The orderly end: waits until all have come here, so that nobody takes an end for a failure.
  void leave();

 private:
  struct Connection;
  void collective(const std::string& what, const std::function<void()>& body);
  [[noreturn]] void fail(const std::string& why);

  Launch launch_;
  std::unique_ptr<Connection> connection_;  ///< Null for a process on its own.
};

}  // namespace vrwkv::distributed

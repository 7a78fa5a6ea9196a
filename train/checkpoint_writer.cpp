#include "train/checkpoint_writer.h"

#include <torch/cuda.h>

#include <chrono>
#include <cstdio>
#include <memory>
#include <utility>

#include "common/log.h"

namespace vrwkv::train {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

/// A copy in the host's memory; from a GPU into pinned memory, all tensors in one go.
Checkpoint host_copy(const Checkpoint& checkpoint) {
  Checkpoint copy{{}, checkpoint.metadata};
  bool from_gpu = false;
  for (const auto& [name, tensor] : checkpoint.tensors) {
    const bool on_gpu = tensor.is_cuda();
    from_gpu = from_gpu || on_gpu;
    torch::Tensor host = torch::empty(tensor.sizes(), tensor.options().device(torch::kCPU).pinned_memory(on_gpu));
    copy.tensors.emplace(name, host.copy_(tensor.detach(), /*non_blocking=*/on_gpu));
  }
  if (from_gpu) torch::cuda::synchronize();
  return copy;
}

}  // namespace

CheckpointWriter::~CheckpointWriter() {
  try {
    finish();
  } catch (const std::exception& error) {
    log::error(error.what());
  }
}

void CheckpointWriter::write(const Checkpoint& checkpoint, As as, std::optional<int64_t> epoch) {
  const Clock::time_point start = Clock::now();
  finish();
  // Shared with the thread, which frees it as soon as the files are written.
  const auto copy = std::make_shared<const Checkpoint>(host_copy(checkpoint));
  pending_ = std::async(std::launch::async, [&store = store_, copy, as, epoch] {
    const Clock::time_point begin = Clock::now();
    as == As::best ? store.save_best(*copy) : store.save_last(*copy);
    if (epoch) store.keep_last_as_epoch(*epoch);
    return seconds_since(begin);
  });
  ++begun_;
  stalled_s_ += seconds_since(start);
}

void CheckpointWriter::check() {
  if (pending_.valid() && pending_.wait_for(std::chrono::seconds(0)) == std::future_status::ready) finish();
}

void CheckpointWriter::finish() {
  if (pending_.valid()) writing_s_ += pending_.get();
}

std::string CheckpointWriter::summary() const {
  if (begun_ == 0) return "";
  char text[160];
  std::snprintf(text, sizeof(text), "%lld checkpoints written in the background in %.2f s; training waited %.2f s",
                static_cast<long long>(begun_), writing_s_, stalled_s_);
  return text;
}

}  // namespace vrwkv::train

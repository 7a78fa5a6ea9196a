#include "ops/cuda/bi_wkv6_narrow_backward.cuh"
#include "ops/cuda/bi_wkv6_narrow_forward.cuh"
#include "ops/cuda/bi_wkv6_narrow_launch.cuh"

namespace vrwkv::ops::cuda::wkv6 {
namespace {

/// The states before each segment, in both directions; undefined where sequences are one segment.
struct EntryStates {
  at::Tensor states;    ///< Of keys^T values.
  at::Tensor adjoints;  ///< Of receptances^T output gradients, if these are given.

  EntryStates(const NarrowLauncher& launcher, const at::BFloat16* gy) {
    const Shape& shape = launcher.shape();
    if (shape.segments == 1) return;
    const auto in = launcher.inputs();
    const auto all = [&] { return launcher.scratch({shape.items(), 2, kStateSize}); };
    const at::Tensor decays = launcher.scratch({shape.items(), kSide});
    states = all();
    if (gy != nullptr) adjoints = all();
    narrow_segment_states_kernel<<<dim3(launcher.items(), gy == nullptr ? 1 : 2), kThreads, 0, launcher.stream()>>>(
        shape, {in.k, in.v}, {in.r, gy}, in.w, states.mutable_data_ptr<float>(),
        gy == nullptr ? nullptr : adjoints.mutable_data_ptr<float>(), decays.mutable_data_ptr<float>());
    C10_CUDA_KERNEL_LAUNCH_CHECK();
    launcher.carry(states, decays);
    if (gy != nullptr) launcher.carry(adjoints, decays);
  }
};

}  // namespace

void narrow_forward(const NarrowLauncher& launcher, at::BFloat16* y) {
  const EntryStates entry(launcher, nullptr);
  const int bytes = NarrowForwardPlaces::bytes(launcher.shape().segment);
  launcher.allow(narrow_forward_kernel, bytes);
  narrow_forward_kernel<<<launcher.items(), kThreads, static_cast<size_t>(bytes), launcher.stream()>>>(
      launcher.shape(), launcher.inputs(), launcher.pointer(entry.states), y);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
}

void narrow_backward(const NarrowLauncher& launcher, const Gradients<float, at::BFloat16>& gradients) {
  const EntryStates entry(launcher, gradients.gy);
  constexpr int kBytes = NarrowBackwardPlaces::kBytes;
  const int64_t blocks = launcher.resident(narrow_backward_kernel, kThreads, kBytes);
  const at::Tensor scratch =
      at::empty({blocks, narrow_backward_scratch(launcher.shape().segment)}, at::device(at::kCUDA).dtype(at::kByte));
  narrow_backward_kernel<<<static_cast<unsigned>(blocks), kThreads, kBytes, launcher.stream()>>>(
      launcher.shape(), launcher.inputs(), gradients, launcher.pointer(entry.states), launcher.pointer(entry.adjoints),
      scratch.mutable_data_ptr<uint8_t>());
  C10_CUDA_KERNEL_LAUNCH_CHECK();
}

}  // namespace vrwkv::ops::cuda::wkv6

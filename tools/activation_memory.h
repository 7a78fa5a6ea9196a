#pragma once

#include <cstdint>

#include "eval/precision.h"
#include "vrwkv/mae_options.h"
#include "vrwkv/options.h"

namespace vrwkv::tools {

/// Bytes that the forward pass of one training step keeps for the backward pass, for each image of a batch.
struct ActivationMemory {
  int64_t block = 0;  ///< Of each block but the last.
  int64_t rest = 0;   ///< Of the last block and of all that is outside of the blocks.
  int64_t total = 0;
};

/// Measured: a network of these options runs forward in training mode with gradients on, on images of `size` x `size`
/// pixels, and what its tensors then still occupy on the device is what autograd keeps, as LibTorch's allocator reports
/// it (on the CPU exactly, on CUDA as it rounds them). Two batches of one and two images tell what an image
/// takes from what does not grow with the batch (casts of weights), and two or three blocks stand for all, which keep
/// the same. Parameters, gradients, optimizer state and the images themselves are not in it. Throws c10::Error for a
/// size that is not a multiple of the patch size.
ActivationMemory measure_activations(const ClassifierOptions& options, int64_t size, const eval::Precision& precision);

/// The same of a masked autoencoder as a whole, whose encoder keeps the visible tokens alone: block is 0.
ActivationMemory measure_activations(const MaskedAutoencoderOptions& options, int64_t size,
                                     const eval::Precision& precision);

}  // namespace vrwkv::tools

#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/loader.h"
#include "data/options.h"
#include "distributed/world.h"
#include "eval/precision.h"
#include "vrwkv/masked_autoencoder.h"

namespace vrwkv::eval {

/// The noise of masks that never change: that of image `index` of a data set depends on this number alone. float32
/// [indices, tokens], on the CPU.
at::Tensor fixed_noise(const std::vector<int64_t>& indices, int64_t tokens);

struct ReconstructionLoss {
  int64_t images = 0;
  double loss = 0;  ///< Mean over the images, masked by fixed_noise().
};

/// Runs `model` over one epoch of `loader`, in evaluation mode and without gradients; its training mode is restored.
/// The model's weights lie on precision.device in weights_dtype(precision.dtype). The loss depends on neither the batch
/// size nor the number of processes, each of which runs over its loader; all get the mean over all images.
ReconstructionLoss evaluate_autoencoder(MaskedAutoencoder model, data::Loader& loader,
                                        const data::NormalizeOptions& normalize, const Precision& precision,
                                        distributed::World& world);

/// `loss 0.43215`
std::string summary_line(const ReconstructionLoss& found);

}  // namespace vrwkv::eval

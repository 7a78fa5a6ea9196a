#pragma once

#include <torch/nn/module.h>

#include <map>
#include <string>
#include <vector>

namespace vrwkv {

/// What became of each tensor, by name.
struct TransferReport {
  std::vector<std::string> loaded;      ///< Copied as they are.
  std::vector<std::string> resized;     ///< Position embeddings, to another grid.
  std::vector<std::string> new_head;    ///< Of the model's head: kept as initialised, as the file's does not fit.
  std::vector<std::string> skipped;     ///< Of the file's head: not used.
  std::vector<std::string> decoder;     ///< Of the decoder of the file's masked autoencoder: not used.
  std::vector<std::string> missing;     ///< Of the model: not in the file, kept as initialised.
  std::vector<std::string> unexpected;  ///< Of the file: not in the model.
};

/// Starts `module` from the weights of another run (`tensors`, by published names). Copied is what has the same name
/// and shape; a position embedding is resized to another grid. Of a masked autoencoder a classifier takes the encoder.
/// A layer of the head (`head.*`) whose tensors are not all there with the same shapes, as with another number of
/// classes or another kind of head, stays as it was initialised. Throws std::runtime_error, and changes nothing, that
/// lists every other tensor of another shape, and when no tensor outside of the head fits at all.
TransferReport transfer_weights(torch::nn::Module& module, const std::map<std::string, torch::Tensor>& tensors);

/// One line for each kind of `report` that there is, with at most `limit` names.
std::vector<std::string> describe(const TransferReport& report, size_t limit = 8);

}  // namespace vrwkv

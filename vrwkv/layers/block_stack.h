#pragma once

#include <torch/nn/modules/container/modulelist.h>
#include <torch/nn/modules/normalization.h>

#include <functional>

#include "vrwkv/layers/block.h"
#include "vrwkv/layers/tokens.h"
#include "vrwkv/options.h"

namespace vrwkv {

/// options.depth blocks with their published starts.
torch::nn::ModuleList make_blocks(const VrwkvOptions& options);

/// What block `layer` makes of `stream`, with drop path and activation checkpointing as the options say when `blocks`
/// train. The last block leaves a standardised feed, unless checkpointing does without feeds. `goes_on`: the next block
/// alone reads the result, and may find it with a branch to add.
Stream run_block(torch::nn::ModuleListImpl& blocks, const VrwkvOptions& options, int64_t layer, const Stream& stream,
                 const Tokens& tokens, bool goes_on = false);

/// All blocks on `embedded` [B, T, C]. The result has a standardised feed; `visit(layer, stream)` sees what each block
/// leaves.
Stream run_blocks(torch::nn::ModuleListImpl& blocks, const VrwkvOptions& options, const torch::Tensor& embedded,
                  const Tokens& tokens, const std::function<void(int64_t, const Stream&)>& visit = {});

/// The norm behind the last block, of what run_blocks() leaves: [B, T, C].
torch::Tensor final_norm(const Stream& last, const torch::nn::LayerNormImpl& norm);

}  // namespace vrwkv

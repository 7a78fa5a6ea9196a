#pragma once

#include <cstdint>
#include <string>

#include "config/run_config.h"
#include "data/dataset.h"
#include "vrwkv/checkpoint/weights.h"

namespace vrwkv::eval {

/// Number of classes of the classification head that `weights` hold; 0 when they hold none.
int64_t head_classes(const ModelWeights& weights);

/// Throws UsageError that lists both numbers unless the head in `checkpoint` has as many classes as the configuration.
/// A checkpoint without a head passes: loading it will say so.
void check_head(const config::RunConfig& config, const ModelWeights& checkpoint);

/// Checks that the labels of `dataset` (named by `key`, such as data.val) mean what the network's outputs mean: the
/// number of classes of the data, of the configuration and of the checkpoint (nullptr: there is none) must be the same,
/// and so must be class names where data and checkpoint have them. Data that only numbers its classes may have fewer.
/// Throws UsageError that lists the numbers, or the first names that differ.
void check_classes(const data::Dataset& dataset, const std::string& key, const config::RunConfig& config,
                   const ModelWeights* checkpoint);

}  // namespace vrwkv::eval

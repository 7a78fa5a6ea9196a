#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "config/run_config.h"
#include "eval/precision.h"
#include "vrwkv/vrwkv_classifier.h"

namespace vrwkv::tools {

/// `receptive_field`: see receptive_field.h, on a logarithmic scale. `attention`: the mean over the channels of
/// bi_wkv_weights() of a token, likewise. `features`: the cosine between a token's features and those of each other
/// token, from the lowest to 1.
enum class MapKind { receptive_field, attention, features };

struct MapOptions {
  MapKind kind = MapKind::receptive_field;
  int64_t layer = 0;                                 ///< From 0.
  std::optional<std::pair<int64_t, int64_t>> token;  ///< Row and column; none: the centre.
  int64_t noise = 0;                                 ///< receptive_field: images of noise in place of files.
  int64_t probes = 8;                                ///< receptive_field: backward passes.
  std::vector<std::string> images;                   ///< Files.
};

/// The powers of ten between the ends of a logarithmic scale.
inline constexpr double kReceptiveFieldDecades = 4, kAttentionDecades = 2;

/// Throws UsageError, which names the flag, for options that contradict each other or the network.
void check_maps(const MapOptions& options, const config::RunConfig& config);

/// The picture uint8 [H, W, 3]: one map for receptive_field, a row for each image otherwise. The first of the network's
/// out_indices must be `layer`. Throws data::ImageError, naming the file, for an image that cannot be read.
at::Tensor draw_maps(VrwkvClassifier model, const MapOptions& options, const config::RunConfig& config,
                     const eval::Precision& precision);

}  // namespace vrwkv::tools

#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "data/dataset.h"
#include "data/transforms.h"

namespace vrwkv::data {

/// What to do with an image that cannot be read or decoded: put another one in its place, or stop.
enum class CorruptPolicy { skip, fail };

struct CorruptImage {
  int64_t index = 0;    ///< In the dataset.
  std::string message;  ///< Names the file and says what is wrong with it.
};

struct LoadedSample {
  at::Tensor image;  ///< uint8 [S, S, 3].
  int64_t label = 0;
  int64_t index = 0;  ///< In the dataset: of the image that was loaded, which may be a replacement.
  int64_t view = 0;   ///< The number that its random draws are a function of: `index`, unless it is repeated.
  std::string name;
  std::vector<CorruptImage> corrupt;  ///< Images met on the way that were skipped.
};

/// Calls `load(view)`; with CorruptPolicy::skip, after an ImageError, `load` of views drawn from the whole dataset
/// until one succeeds, and returns the corrupt images met on the way. Throws ImageError for `fail`, and for `skip`
/// after many corrupt images in a row.
std::vector<CorruptImage> load_readable(const Dataset& dataset, int64_t view, std::uint64_t seed, int64_t epoch,
                                        CorruptPolicy policy, const std::function<void(int64_t view)>& load);

/// Calls `work`; what it throws names the file `name`: ImageError as such, anything else as std::runtime_error.
void with_name(const std::string& name, const std::function<void()>& work);

/// The generator of view number `view` for its transform.
Generator transform_generator(std::uint64_t seed, int64_t epoch, int64_t view);

/// Reads, decodes and transforms view number `view`, as Sampler numbers them: of the sample at `view` modulo the
/// dataset's size. The result is a function of (dataset, view, transform, seed, epoch).
/// With CorruptPolicy::skip a corrupt image is replaced by others drawn from the whole dataset.
/// Throws ImageError for a corrupt image (for `skip`: after many corrupt ones in a row), and std::runtime_error, naming
/// the file, when the transform fails.
LoadedSample load_sample(const Dataset& dataset, int64_t view, const Transform& transform, std::uint64_t seed,
                         int64_t epoch, CorruptPolicy policy);

}  // namespace vrwkv::data

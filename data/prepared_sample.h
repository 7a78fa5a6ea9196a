#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <exception>

#include "data/dataset.h"
#include "data/sample_reader.h"
#include "data/transforms.h"

namespace vrwkv::data {

/// A training sample of which a device does the rest. What it begins with is the first of these that is there:
/// `sample.image`, all done on the CPU; `pixels`; `source`.
struct PreparedSample {
  int64_t requested = 0;     ///< The view asked for, which may have been corrupt and replaced by `sample.view`.
  LoadedSample sample;       ///< All but the image, as load_sample() gives it.
  TrainView view;            ///< Its box is a part of `pixels` or of the image in `source`.
  at::Tensor pixels;         ///< uint8 [box.height, box.width, 3], decoded (and reduced) on the CPU.
  EncodedSample source;      ///< A JPEG for the device to decode, is_baseline_jpeg().
  int64_t height = 0;        ///< Of the image in `source`, in pixels.
  int64_t width = 0;         ///< Likewise.
  std::exception_ptr error;  ///< Why there is no sample after all.
};

struct PrepareOptions {
  TrainTransformOptions transform;
  double device_share = 1;                       ///< Of the JPEGs that the device can decode: how many it does decode.
  int64_t max_device_pixels = int64_t{1} << 24;  ///< Of an image; larger ones are done on the CPU, to bound memory.
};

/// load_sample() of train_transform(options.transform) up to where the device takes over: the same draws, the same
/// replacements of corrupt images, the same errors. But a device decodes a JPEG in full where the CPU would reduce it.
/// Which of the JPEGs the device decodes is drawn like the rest, so that a sample stays a function of (dataset, view,
/// options, seed, epoch).
PreparedSample prepare_sample(const Dataset& dataset, int64_t view, const PrepareOptions& options, std::uint64_t seed,
                              int64_t epoch, CorruptPolicy policy);

}  // namespace vrwkv::data

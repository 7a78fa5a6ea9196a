#pragma once

#include <array>
#include <cstdint>
#include <string>

namespace vrwkv::data {

/// Where images come from. `automatic` looks at `path`: a folder is `folder` (or `list` when `list` is set), a file is
/// `tar`. `synthetic` makes the images and reads no file.
enum class DatasetFormat { automatic, folder, list, tar, synthetic };

/// Images made from numbers, to try or time a configuration without data.
struct SyntheticOptions {
  int64_t images = 1024;
  int64_t classes = 1000;
  int64_t size = 256;  ///< Height and width in pixels.
  int64_t seed = 0;    ///< Other images of the same classes.

  bool operator==(const SyntheticOptions&) const = default;
};

struct DatasetOptions {
  std::string path;  ///< A folder, or a tar file.
  DatasetFormat format = DatasetFormat::automatic;
  std::string list = {};  ///< For `list`: a text file of `relative/path label` lines.
  SyntheticOptions synthetic = {};

  bool operator==(const DatasetOptions&) const = default;
};

/// `random_resized`: area and aspect drawn at random, then resized; `pad`: resized to size x size unless it has
/// that size, zero padding, then a random crop of `size`; `resize`: plain resize to size x size.
enum class TrainCrop { random_resized, pad, resize };

struct TrainTransformOptions {
  int64_t size = 224;  ///< Side in pixels of the result.
  TrainCrop crop = TrainCrop::random_resized;
  std::array<double, 2> scale{0.08, 1.0};             ///< random_resized: share of the area.
  std::array<double, 2> ratio{3.0 / 4.0, 4.0 / 3.0};  ///< random_resized: width over height.
  int64_t padding = 4;                                ///< pad: pixels added on each side.
  double hflip = 0.5;                                 ///< Probability of a horizontal flip.

  bool operator==(const TrainTransformOptions&) const = default;
};

struct EvalTransformOptions {
  int64_t resize = 256;  ///< Short side in pixels after the resize.
  int64_t size = 224;    ///< Side in pixels of the centre crop.

  bool operator==(const EvalTransformOptions&) const = default;
};

struct NormalizeOptions {
  std::array<double, 3> mean{123.675, 116.28, 103.53};  ///< Per channel R, G, B, in grey levels 0 … 255.
  std::array<double, 3> std{58.395, 57.12, 57.375};

  bool operator==(const NormalizeOptions&) const = default;
};

struct DataOptions {
  DatasetOptions train;
  DatasetOptions val;
  TrainTransformOptions train_transform;
  EvalTransformOptions eval_transform;
  NormalizeOptions normalize;
  int64_t workers = 0;               ///< Loader threads; 0: one per core.
  int64_t prefetch_batches = 4;      ///< Batches prepared ahead.
  double max_corrupt_share = 0.001;  ///< Training stops when more of an epoch's images are unreadable.

  bool operator==(const DataOptions&) const = default;
};

}  // namespace vrwkv::data

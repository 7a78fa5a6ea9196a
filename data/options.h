#pragma once

#include <array>
#include <cstdint>
#include <string>

namespace vrwkv::data {

/// Where images come from. `automatic` looks at `path`: a folder is `folder` (or `list` when `list` is set; or `tar`
/// when it holds .tar files and no folder), a file or a pattern of files is `tar`. `synthetic` makes the images and
/// reads no file.
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
  std::string path;  ///< A folder, a tar file, or several: a folder of tars or a pattern with * ? [ ].
  DatasetFormat format = DatasetFormat::automatic;
  std::string list = {};  ///< For `list`: a text file of `relative/path label` lines, or a .csv file with a header.
  SyntheticOptions synthetic = {};
  std::string ground_truth = {};     ///< For `tar`: ILSVRC2012_validation_ground_truth.txt; needs `synsets`.
  std::string synsets = {};          ///< WNIDs in the order that `ground_truth` numbers.
  std::string index_cache = "auto";  ///< For `folder` and `tar`: see index_cache_folder().

  bool operator==(const DatasetOptions&) const = default;
};

/// `random_resized`: area and aspect drawn at random, then resized; `pad`: resized to size x size unless it has
/// that size, zero padding, then a random crop of `size`; `resize`: plain resize to size x size.
enum class TrainCrop { random_resized, pad, resize };

/// RandAugment (Cubuk et al. 2020) with timm's list of 15 operations; see docs/augmentation.md.
struct RandAugmentOptions {
  int64_t num_ops = 0;         ///< Operations drawn for an image, with replacement; 0: off.
  double magnitude = 9.0;      ///< Mean strength, 0 ... 10.
  double magnitude_std = 0.5;  ///< Standard deviation of the strength of each operation.
  double prob = 0.5;           ///< Probability that a drawn operation is applied.
  bool increasing = true;      ///< Every operation is stronger at a higher magnitude.

  bool operator==(const RandAugmentOptions&) const = default;
};

/// What an erased rectangle is filled with, in normalised units: standard normal noise of each value, or 0 (the mean).
enum class ErasingFill { noise, zero };

/// Random erasing (Zhong et al. 2017), after normalisation.
struct ErasingOptions {
  double prob = 0.0;  ///< Probability that an image is erased; 0: off.
  ErasingFill fill = ErasingFill::noise;
  std::array<double, 2> area{0.02, 1.0 / 3.0};          ///< Share of the image, of all rectangles together.
  std::array<double, 2> ratio{3.0 / 10.0, 10.0 / 3.0};  ///< Height over width of a rectangle.
  int64_t max_count = 1;                                ///< 1 ... max_count rectangles in an erased image.

  bool operator==(const ErasingOptions&) const = default;
};

/// Training begins with smaller images, which cost less, and grows to the full size (progressive learning, Tan and Le,
/// arXiv 2104.00298).
struct ProgressiveOptions {
  int64_t start_size = 0;  ///< Side in pixels of the first epoch's samples; 0: the full size throughout.
  int64_t epochs = 0;      ///< The epoch (from 0) that has the full size first.

  bool operator==(const ProgressiveOptions&) const = default;
};

struct TrainTransformOptions {
  int64_t size = 224;  ///< Side in pixels of the result.
  TrainCrop crop = TrainCrop::random_resized;
  std::array<double, 2> scale{0.08, 1.0};             ///< random_resized: share of the area.
  std::array<double, 2> ratio{3.0 / 4.0, 4.0 / 3.0};  ///< random_resized: width over height.
  int64_t padding = 4;                                ///< pad: pixels added on each side.
  double hflip = 0.5;                                 ///< Probability of a horizontal flip.
  /// random_resized: JPEGs are decoded at 1/2, 1/4 or 1/8 where the part has as many pixels then, as Pillow's draft
  /// mode.
  bool reduced_decode = true;
  ProgressiveOptions progressive;
  RandAugmentOptions rand_augment;
  bool three_augment = false;  ///< 3-Augment of DeiT III: grey, solarized or blurred, one of them for each image.
  double color_jitter = 0.0;   ///< Brightness, contrast and saturation by factors within 1 +- this; 0: off.
  ErasingOptions erasing;

  bool operator==(const TrainTransformOptions&) const = default;
};

/// Kernels of an antialiased resize, as Pillow's BICUBIC (a = -0.5) and BILINEAR.
enum class Interpolation { bicubic, bilinear };

/// `short_side`: the short side becomes `resize`, then the centre is cut out; `stretch`: to size x size as a whole.
enum class ResizeMode { short_side, stretch };

struct EvalTransformOptions {
  int64_t resize = 256;  ///< Short side in pixels after the resize, of short_side.
  int64_t size = 224;    ///< Side in pixels of the result.
  ResizeMode mode = ResizeMode::short_side;
  Interpolation interpolation = Interpolation::bicubic;

  bool operator==(const EvalTransformOptions&) const = default;
};

struct NormalizeOptions {
  std::array<double, 3> mean{123.675, 116.28, 103.53};  ///< Per channel R, G, B, in grey levels 0 … 255.
  std::array<double, 3> std{58.395, 57.12, 57.375};

  bool operator==(const NormalizeOptions&) const = default;
};

/// One draw of mixing for all images of a batch, or one for each.
enum class MixMode { batch, element };

/// Mixup (Zhang et al. 2017) and CutMix (Yun et al. 2019) of the images of a batch; see docs/augmentation.md.
struct MixOptions {
  double mixup_alpha = 0.0;   ///< lambda ~ Beta(alpha, alpha); 0: no mixup.
  double cutmix_alpha = 0.0;  ///< lambda ~ Beta(alpha, alpha); 0: no CutMix.
  double prob = 1.0;          ///< Probability that a batch (or an image) is mixed at all.
  double switch_prob = 0.5;   ///< Probability of CutMix where both are on.
  MixMode mode = MixMode::batch;

  bool enabled() const { return mixup_alpha > 0.0 || cutmix_alpha > 0.0; }
  bool operator==(const MixOptions&) const = default;
};

/// Who decodes and transforms training images: the loader's threads, a GPU, or a GPU where the run and the build have
/// what it takes.
enum class DecodeDevice { cpu, gpu, automatic };

struct DataOptions {
  DatasetOptions train;
  DatasetOptions val;
  TrainTransformOptions train_transform;
  EvalTransformOptions eval_transform;
  NormalizeOptions normalize;
  MixOptions mix;
  int64_t repeats = 1;  ///< Training views of an image in an epoch, whose length stays; 1: off.
  DecodeDevice decode = DecodeDevice::cpu;
  double gpu_share = 0.4;            ///< With a GPU: share of the JPEGs that it decodes, the threads decode the others.
  int64_t workers = 0;               ///< Loader threads; 0: one per core.
  int64_t prefetch_batches = 4;      ///< Batches prepared ahead.
  double max_corrupt_share = 0.001;  ///< Training stops when more of an epoch's images are unreadable.

  bool operator==(const DataOptions&) const = default;
};

}  // namespace vrwkv::data

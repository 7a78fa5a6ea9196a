#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "data/augment/draw.h"
#include "data/box.h"
#include "data/image_source.h"
#include "data/options.h"
#include "data/random.h"

namespace vrwkv::data {

/// The rectangle that RandomResizedCrop takes of an image of height x width: up to ten draws of an area (a share of the
/// image within `scale`) and of an aspect (width / height, log-uniform within `ratio`), then the largest fitting
/// middle.
Box random_resized_box(int64_t height, int64_t width, const TrainTransformOptions& options, Generator& generator);

/// All that is drawn for a training view. The pixels of `box` are resized to size x size; of that, the square of the
/// same size whose upper left corner is (top, left) is taken, black outside; then come the flip and the operations.
struct TrainView {
  Box box;
  int64_t reduction = 1;  ///< Of the box, one pixel for each square of so many is decoded: of a JPEG.
  int64_t top = 0, left = 0;
  bool flip = false;
  std::vector<augment::DrawnOperation> operations;

  bool operator==(const TrainView&) const = default;
};

/// The view of an image of height x width.
TrainView draw_train_view(int64_t height, int64_t width, const TrainTransformOptions& options, Generator& generator);

/// Reduces the decoding of `view` as far as its box, of an image of height x width, still has size x size pixels: its
/// corner and its sides become multiples of the reduction. They move by at most half of it, where the image ends within
/// a square by less than one and a half.
void reduce_view(TrainView& view, int64_t height, int64_t width, int64_t size);

/// `view` carried out on the pixels of its box, uint8 [H, W, 3].
at::Tensor make_train_view(const at::Tensor& pixels, const TrainView& view, int64_t size);

/// The view that train_view() makes of this image: reduced where options and image allow it.
TrainView draw_train_view(const ImageSource& image, const TrainTransformOptions& options, Generator& generator);

/// The pixels of the view's box, of which no more is decoded than needed.
at::Tensor view_pixels(const ImageSource& image, const TrainView& view, const TrainTransformOptions& options);

/// Training view of an image: `options.crop`, a random horizontal flip, then RandAugment, 3-Augment
/// and color jitter where they are on; uint8 [size, size, 3]. Erasing comes after normalisation
/// (batch_augment/erase.h).
at::Tensor train_view(const ImageSource& image, const TrainTransformOptions& options, Generator& generator);

/// Evaluation view of an image, as options.mode says; uint8 [size, size, 3].
at::Tensor eval_view(const ImageSource& image, const EvalTransformOptions& options);

/// What a loader applies to each image; `apply` returns uint8 [size, size, 3].
struct Transform {
  int64_t size = 0;
  std::function<at::Tensor(const ImageSource& image, Generator& generator)> apply;
};

Transform train_transform(const TrainTransformOptions& options);
Transform eval_transform(const EvalTransformOptions& options);

/// (x - mean) / std per channel: uint8 [B, H, W, 3] on any device to `dtype` [B, 3, H, W], contiguous, on that device.
/// Computed in float32 (float64 if `dtype` is), then rounded once. Throws c10::Error for another dtype or shape.
at::Tensor normalize(const at::Tensor& images, const NormalizeOptions& options, at::ScalarType dtype);

/// The way back, for people to look at: normalised images floating point [B, 3, H, W] to the nearest grey levels, uint8
/// [B, H, W, 3] on the CPU.
at::Tensor grey_levels(const at::Tensor& images, const NormalizeOptions& options);

}  // namespace vrwkv::data

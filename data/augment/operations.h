#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

/// Operations on images uint8 [H, W, 3], contiguous, on the CPU; each returns a new image of the same shape with the
/// pixels that Pillow computes (the function of Pillow is named), runs on the calling thread alone, and throws
/// std::invalid_argument for another dtype, shape or layout, and for an argument out of its range.
namespace vrwkv::data::augment {

// tables.cpp: a level depends on the level before alone.

/// 255 - level (ImageOps.invert).
at::Tensor invert(const at::Tensor& image);

/// Keeps the `bits` highest bits of each level, 0 ... 8 (ImageOps.posterize; 0 gives black).
at::Tensor posterize(const at::Tensor& image, int64_t bits);

/// Inverts the levels from `threshold` on (ImageOps.solarize); 256 changes nothing.
at::Tensor solarize(const at::Tensor& image, int64_t threshold);

/// Adds `addend`, at least 0, to the levels below 128, up to 255 (timm's solarize_add).
at::Tensor solarize_add(const at::Tensor& image, int64_t addend);

/// Stretches each channel to 0 ... 255 (ImageOps.autocontrast); a channel of one level stays.
at::Tensor auto_contrast(const at::Tensor& image);

/// Makes each channel's histogram flat (ImageOps.equalize).
at::Tensor equalize(const at::Tensor& image);

// color.cpp: blends, `degenerate + factor * (image - degenerate)` in float32, cut off to whole levels. Factor 1 changes
// nothing, 0 gives the degenerate image, above 1 leads away from it. Factors are finite.

/// Grey by ITU-R 601-2 luma, in all three channels (Image.convert('L')).
at::Tensor grayscale(const at::Tensor& image);

/// Saturation: from the grey image (ImageEnhance.Color).
at::Tensor color(const at::Tensor& image, double factor);

/// From the mean grey level (ImageEnhance.Contrast).
at::Tensor contrast(const at::Tensor& image, double factor);

/// From black (ImageEnhance.Brightness).
at::Tensor brightness(const at::Tensor& image, double factor);

// filters.cpp

/// From the image smoothed by the 3 x 3 kernel of ones with 5 in its middle; the border pixels stay as they are
/// (ImageEnhance.Sharpness).
at::Tensor sharpness(const at::Tensor& image, double factor);

/// Gaussian of standard deviation `radius` pixels, at least 0, as three box blurs in each direction
/// (ImageFilter.GaussianBlur; Gwosdek et al. 2011). A radius above 1000 is refused.
at::Tensor gaussian_blur(const at::Tensor& image, double radius);

// geometry.cpp: bicubic without antialiasing; what comes from outside is (124, 116, 104), ImageNet's mean colour.

/// Counter-clockwise about the middle, in degrees (Image.rotate).
at::Tensor rotate(const at::Tensor& image, double degrees);

/// Row y moves left by factor * (y + 0.5) pixels (Image.transform with AFFINE).
at::Tensor shear_x(const at::Tensor& image, double factor);

/// Column x moves up by factor * (x + 0.5) pixels.
at::Tensor shear_y(const at::Tensor& image, double factor);

/// To the left by `share` of the width.
at::Tensor translate_x_rel(const at::Tensor& image, double share);

/// Upwards by `share` of the height.
at::Tensor translate_y_rel(const at::Tensor& image, double share);

}  // namespace vrwkv::data::augment

#pragma once

// The resize of a training view, pixel by pixel, written once for CUDA's threads and for the CPU's tests.
//
// The arithmetic is Pillow's: a cubic convolution (a = -0.5) whose support grows with the scale, along the width first,
// rounded to whole levels, then along the height. Weights are float32 here, integers there, so that a level may differ
// by one in each pass.

#include <c10/macros/Macros.h>

#include <cstdint>

namespace vrwkv::data::gpu {

/// A training view in memory that the device reaches: TrainView without its operations.
struct ViewTask {
  const std::uint8_t* pixels;  ///< The upper left pixel of the view's box, 3 bytes a pixel.
  std::int64_t stride;         ///< Bytes from a row to the next.
  std::uint8_t* narrow;        ///< [height, size, 3]: the box with its final width.
  std::uint8_t* target;        ///< [size, size, 3]
  int height, width;           ///< Of the box.
  int size;                    ///< Of the result.
  int top, left;               ///< Of the result's square in the resized box.
  bool flip;
};

/// The input values that an output value is made of: `count` from `first` on, the k-th with the weight
/// cubic((k + shift) * inverse), over the sum of the weights.
struct Taps {
  int first, count;
  float shift, inverse;
};

C10_HOST_DEVICE inline Taps taps_of(int output, int inputs, int outputs) {
  const double scale = static_cast<double>(inputs) / outputs;
  const double stretch = scale > 1.0 ? scale : 1.0;
  const double centre = (output + 0.5) * scale;
  int first = static_cast<int>(centre - 2.0 * stretch + 0.5);
  int last = static_cast<int>(centre + 2.0 * stretch + 0.5);
  first = first > 0 ? first : 0;
  last = last < inputs ? last : inputs;
  return {first, last - first, static_cast<float>(first - centre + 0.5), static_cast<float>(1.0 / stretch)};
}

/// Keys' cubic convolution with a = -0.5.
C10_HOST_DEVICE inline float cubic_weight(float x) {
  const float distance = x < 0.0F ? -x : x;
  if (distance < 1.0F) return (1.5F * distance - 2.5F) * distance * distance + 1.0F;
  if (distance < 2.0F) return -0.5F * (((distance - 5.0F) * distance + 8.0F) * distance - 4.0F);
  return 0.0F;
}

C10_HOST_DEVICE inline std::uint8_t to_level(float value) {
  const float rounded = value + 0.5F;
  return static_cast<std::uint8_t>(rounded < 0.0F ? 0.0F : (rounded > 255.0F ? 255.0F : rounded));
}

/// One output pixel of a line of `inputs` pixels that begins at `line`, `step` bytes apart.
C10_HOST_DEVICE inline void resample(const std::uint8_t* line, std::int64_t step, int inputs, int outputs, int output,
                                     std::uint8_t* to) {
  const Taps taps = taps_of(output, inputs, outputs);
  const std::uint8_t* pixel = line + taps.first * step;
  float red = 0.0F, green = 0.0F, blue = 0.0F, total = 0.0F;
  for (int k = 0; k < taps.count; ++k, pixel += step) {
    const float weight = cubic_weight((static_cast<float>(k) + taps.shift) * taps.inverse);
    red += weight * static_cast<float>(pixel[0]);
    green += weight * static_cast<float>(pixel[1]);
    blue += weight * static_cast<float>(pixel[2]);
    total += weight;
  }
  to[0] = to_level(red / total);
  to[1] = to_level(green / total);
  to[2] = to_level(blue / total);
}

/// Pixel number `index` of task.narrow.
C10_HOST_DEVICE inline void narrow_pixel(const ViewTask& task, int index) {
  const int row = index / task.size, column = index % task.size;
  resample(task.pixels + row * task.stride, 3, task.width, task.size, column,
           task.narrow + 3 * static_cast<std::int64_t>(index));
}

/// Pixel number `index` of task.target, once all of task.narrow is there.
C10_HOST_DEVICE inline void finish_pixel(const ViewTask& task, int index) {
  const int y = index / task.size, x = index % task.size;
  const int row = y + task.top, column = (task.flip ? task.size - 1 - x : x) + task.left;
  std::uint8_t* to = task.target + 3 * static_cast<std::int64_t>(index);
  if (row < 0 || row >= task.size || column < 0 || column >= task.size) {
    to[0] = to[1] = to[2] = 0;
    return;
  }
  resample(task.narrow + 3 * column, 3 * static_cast<std::int64_t>(task.size), task.height, task.size, row, to);
}

}  // namespace vrwkv::data::gpu

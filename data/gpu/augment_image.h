#pragma once

// The operations of data/augment/operations.h on an image by a block of threads, written once for CUDA's blocks and for
// the CPU's tests: exactly the pixels of those functions. (Compiled for CUDA without contraction to fused operations.)
//
// A Block has: each(count, f), which calls f(0) ... f(count - 1), in any order, and returns when all are done;
// add(counter), which counts one up from within each(); sum(total, count, f), which sets total to the sum of f(i).
// Counters are integers, so that the order of the threads changes nothing.

#include <c10/macros/Macros.h>

#include <cmath>
#include <cstdint>

#include "data/augment/blend.h"
#include "data/gpu/image_operation.h"

namespace vrwkv::data::gpu {

/// What the threads of a block share.
struct Shared {
  unsigned counts[3][256];
  std::uint8_t table[3][256];
  double scale[3], offset[3];
  unsigned long long total;
};

/// 0.299 R + 0.587 G + 0.114 B, in 16-bit fixed point.
C10_HOST_DEVICE inline int luma_of(const std::uint8_t* pixel) {
  return (pixel[0] * 19595 + pixel[1] * 38470 + pixel[2] * 7471 + 0x8000) >> 16;
}

/// Cubic convolution with a = -1 through four values, `t` behind the second.
C10_HOST_DEVICE inline double cubic_through(const double* v, double t) {
  const double linear = -v[0] + v[2];
  const double square = 2 * (v[0] - v[1]) + v[2] - v[3];
  const double cube = -v[0] + v[1] - v[2] + v[3];
  return v[1] + t * (linear + t * (square + t * cube));
}

C10_HOST_DEVICE inline int limited(int value, int low, int high) {
  return value < low ? low : (value > high ? high : value);
}

/// The colour at (x, y) of the image of size x size, pixel centres at halves; ImageNet's mean colour outside.
C10_HOST_DEVICE inline void sample_at(const std::uint8_t* pixels, int size, double x, double y, std::uint8_t* to) {
  if (!(x >= 0.0 && x < static_cast<double>(size) && y >= 0.0 && y < static_cast<double>(size))) {
    to[0] = 124;
    to[1] = 116;
    to[2] = 104;
    return;
  }
  const int left = static_cast<int>(std::floor(x - 0.5)), top = static_cast<int>(std::floor(y - 0.5));
  const double dx = x - 0.5 - left, dy = y - 0.5 - top;
  for (int channel = 0; channel < 3; ++channel) {
    double across[4];
    for (int i = 0; i < 4; ++i) {
      const std::uint8_t* row = pixels + 3 * size * limited(top - 1 + i, 0, size - 1) + channel;
      double values[4];
      for (int k = 0; k < 4; ++k) values[k] = row[3 * limited(left - 1 + k, 0, size - 1)];
      across[i] = cubic_through(values, dx);
    }
    const double value = cubic_through(across, dy);
    to[channel] = static_cast<std::uint8_t>(value < 0.0 ? 0.0 : (value > 255.0 ? 255.0 : value));
  }
}

/// sharpness: byte `i` of the image.
C10_HOST_DEVICE inline std::uint8_t sharpened(const std::uint8_t* pixels, int size, int i, float factor) {
  const int stride = 3 * size, y = i / stride, x = i % stride / 3;
  if (x == 0 || y == 0 || x == size - 1 || y == size - 1) return pixels[i];
  int sum = 4 * pixels[i];
  for (int row = -1; row <= 1; ++row) {
    const std::uint8_t* middle = pixels + i + row * stride;
    sum += middle[-3] + middle[0] + middle[3];
  }
  return augment::blend((2 * sum + 13) / 26, pixels[i], factor);
}

/// One box of gaussian_blur, along the rows or the columns: byte `i` of the image; the ends are repeated outwards.
C10_HOST_DEVICE inline std::uint8_t box_blurred(const std::uint8_t* pixels, int size, int i, bool along_rows,
                                                const ImageOperation& operation) {
  const int pixel = i / 3;
  const int place = along_rows ? pixel % size : pixel / size;
  const int step = along_rows ? 3 : 3 * size;
  const std::uint8_t* line = pixels + i - place * step;
  const auto at = [&](int k) -> std::uint32_t { return line[limited(place + k, 0, size - 1) * step]; };
  std::uint32_t sum = 0;
  for (int k = -operation.reach; k <= operation.reach; ++k) sum += at(k);
  const std::uint32_t edges = at(-operation.reach - 1) + at(operation.reach + 1);
  return static_cast<std::uint8_t>((sum * operation.inner + edges * operation.edge + (1U << 23U)) >> 24U);
}

/// What `level` becomes by an operation that looks at nothing else.
C10_HOST_DEVICE inline int level_after(const ImageOperation& operation, int level) {
  using augment::OperationKind;
  switch (operation.kind) {
    case OperationKind::posterize:
      return level >> operation.whole << operation.whole;
    case OperationKind::solarize:
      return level < operation.whole ? level : 255 - level;
    case OperationKind::solarize_add:
      return level < 128 ? limited(level + operation.whole, 0, 255) : level;
    case OperationKind::brightness:
      return augment::blend(0, level, operation.factor);
    default:  // invert
      return 255 - level;
  }
}

/// auto_contrast of a channel: how its levels are stretched.
C10_HOST_DEVICE inline void find_stretch(Shared& shared, int channel) {
  const unsigned* counts = shared.counts[channel];
  int low = 0, high = 255;
  while (counts[low] == 0) ++low;
  while (counts[high] == 0) --high;
  const bool plain = low == high;
  shared.scale[channel] = plain ? 1.0 : 255.0 / (high - low);
  shared.offset[channel] = plain ? 0.0 : -low * shared.scale[channel];
}

/// equalize of a channel: its table.
C10_HOST_DEVICE inline void fill_flat_table(Shared& shared, int channel, int pixels) {
  const unsigned* counts = shared.counts[channel];
  int high = 255;
  while (counts[high] == 0) --high;
  const unsigned step = (static_cast<unsigned>(pixels) - counts[high]) / 255;
  unsigned below = step / 2;
  for (int level = 0; level < 256; ++level) {
    const unsigned value = step == 0 ? static_cast<unsigned>(level) : below / step;
    shared.table[channel][level] = static_cast<std::uint8_t>(value > 255 ? 255 : value);
    below += counts[level];
  }
}

template <class Block>
C10_HOST_DEVICE void count_levels(const Block& block, Shared& shared, const std::uint8_t* pixels, int count) {
  block.each(3 * 256, [&](int i) { shared.counts[i / 256][i % 256] = 0; });
  block.each(3 * count, [&](int i) { block.add(shared.counts[i % 3][pixels[i]]); });
}

/// The table of an operation that has one.
template <class Block>
C10_HOST_DEVICE void fill_table(const Block& block, Shared& shared, const ImageOperation& operation,
                                const std::uint8_t* pixels, int count) {
  using augment::OperationKind;
  if (operation.kind == OperationKind::equalize) {
    count_levels(block, shared, pixels, count);
    block.each(3, [&](int channel) { fill_flat_table(shared, channel, count); });
  } else if (operation.kind == OperationKind::auto_contrast) {
    count_levels(block, shared, pixels, count);
    block.each(3, [&](int channel) { find_stretch(shared, channel); });
    block.each(3 * 256, [&](int i) {
      const double level = i % 256 * shared.scale[i / 256] + shared.offset[i / 256];
      shared.table[i / 256][i % 256] = static_cast<std::uint8_t>(limited(static_cast<int>(level), 0, 255));
    });
  } else if (operation.kind == OperationKind::contrast) {
    block.sum(shared.total, count, [&](int i) { return static_cast<unsigned>(luma_of(pixels + 3 * i)); });
    const int mean = static_cast<int>(static_cast<double>(shared.total) / static_cast<double>(count) + 0.5);
    block.each(3 * 256,
               [&](int i) { shared.table[i / 256][i % 256] = augment::blend(mean, i % 256, operation.factor); });
  } else {
    block.each(3 * 256, [&](int i) {
      shared.table[i / 256][i % 256] = static_cast<std::uint8_t>(level_after(operation, i % 256));
    });
  }
}

/// The image of size x size in `pixels` after the operation, which is in `other` if moves() is odd.
template <class Block>
C10_HOST_DEVICE void apply_operation(const Block& block, Shared& shared, const ImageOperation& operation, int size,
                                     std::uint8_t* pixels, std::uint8_t* other) {
  using augment::OperationKind;
  const int count = size * size;
  switch (operation.kind) {
    case OperationKind::color:
    case OperationKind::grayscale:
      block.each(count, [&](int i) {
        std::uint8_t* pixel = pixels + 3 * i;
        const int gray = luma_of(pixel);
        for (int c = 0; c < 3; ++c) pixel[c] = augment::blend(gray, pixel[c], operation.factor);
      });
      return;
    case OperationKind::sharpness:
      block.each(3 * count, [&](int i) { other[i] = sharpened(pixels, size, i, operation.factor); });
      return;
    case OperationKind::gaussian_blur:
      for (int pass = 0; pass < moves(OperationKind::gaussian_blur); ++pass) {
        const std::uint8_t* from = pass % 2 == 0 ? pixels : other;
        std::uint8_t* to = pass % 2 == 0 ? other : pixels;
        block.each(3 * count, [&](int i) { to[i] = box_blurred(from, size, i, pass < 3, operation); });
      }
      return;
    case OperationKind::rotate:
    case OperationKind::shear_x:
    case OperationKind::shear_y:
    case OperationKind::translate_x_rel:
    case OperationKind::translate_y_rel:
      block.each(count, [&](int i) {
        const double x = i % size + 0.5, y = i / size + 0.5;
        const double* m = operation.map;
        sample_at(pixels, size, m[0] * x + m[1] * y + m[2], m[3] * x + m[4] * y + m[5], other + 3 * i);
      });
      return;
    default:
      fill_table(block, shared, operation, pixels, count);
      block.each(3 * count, [&](int i) { pixels[i] = shared.table[i % 3][pixels[i]]; });
  }
}

/// The operations one after the other. The image is in `pixels` at first, and at the end in `pixels` or `other`,
/// depending on whether the sum of their moves() is even.
template <class Block>
C10_HOST_DEVICE void augment_image(const Block& block, Shared& shared, const ImageOperation* operations, int count,
                                   int size, std::uint8_t* pixels, std::uint8_t* other) {
  for (int i = 0; i < count; ++i) {
    apply_operation(block, shared, operations[i], size, pixels, other);
    if (moves(operations[i].kind) % 2 != 0) {
      std::uint8_t* const moved = other;
      other = pixels;
      pixels = moved;
    }
  }
}

}  // namespace vrwkv::data::gpu

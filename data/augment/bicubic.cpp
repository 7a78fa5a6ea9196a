#include "data/augment/bicubic.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <memory>
#include <vector>

#include "data/vector_clones.h"

// Compiled without contraction of a * b + c: places and levels have Pillow's bits on every processor.
//
// Levels are computed in float32 and counted as found unless they come so near to a whole number that the error could
// move them across it: those, well below one in a hundred, are computed again in float64 as Pillow does.
namespace vrwkv::data::augment {
namespace {

constexpr std::array<std::uint8_t, 3> kFill{124, 116, 104};

/// Pixels repeated beyond each side of the padded image: the four taps of a place inside begin at -2 and end at + 1.
constexpr int64_t kMargin = 2;

/// More than float32 is off by: |weights| sum up to 1.5 in each direction, so that terms stay below 574, and ten
/// roundings of 2^-24 of it come to 3.5e-4.
constexpr float kDoubt = 1.0F / 1024;

/// Red, green, blue, and a fourth value that nobody looks at.
using Pixel = float __attribute__((vector_size(16)));

Pixel load(const float* from) {
  Pixel pixel;
  std::memcpy(&pixel, from, sizeof pixel);
  return pixel;
}

/// Cubic convolution through four values, `t` behind the second. Horner's form in this order, as Pillow has it: its
/// result is cut off, so that the last bit can move a level.
double cubic(double v0, double v1, double v2, double v3, double t) {
  const double linear = -v0 + v2;
  const double square = 2 * (v0 - v1) + v2 - v3;
  const double cube = -v0 + v1 - v2 + v3;
  return v1 + t * (linear + t * (square + t * cube));
}

/// The taps that count: where a map keeps columns (or rows) as they are, all but the second have weight 0.
enum class Taps { across, down, both };

Taps taps_of(const Affine& map) {
  if (map.d == 0 && map.e == 1 && map.f == 0) return Taps::across;
  return map.a == 1 && map.b == 0 && map.c == 0 ? Taps::down : Taps::both;
}

/// Of four taps.
struct Weights {
  float w0, w1, w2, w3;
};

/// Those of cubic().
inline Weights cubic_weights(float t) {
  const float square = t * t, cube = square * t;
  return {2 * square - t - cube, 1 - 2 * square + cube, t + square - cube, cube - square};
}

VRWKV_VECTOR_CLONES
void to_floats(const std::uint8_t* __restrict from, int64_t count, float* __restrict to) {
  for (int64_t i = 0; i < count; ++i) to[i] = from[i];
}

/// The image in float32, 3 values a pixel, with kMargin pixels of its border repeated on each side.
class PaddedImage {
 public:
  PaddedImage(const std::uint8_t* pixels, int64_t height, int64_t width)
      : stride_(3 * (width + 2 * kMargin)),
        // One value more, as the last pixel is loaded with four.
        values_(
            std::make_unique_for_overwrite<float[]>(static_cast<std::size_t>((height + 2 * kMargin) * stride_ + 1))) {
    for (int64_t y = 0; y < height; ++y) fill_row(pixels + y * 3 * width, width, row(y));
    for (int64_t y = 0; y < kMargin; ++y) {
      std::copy_n(row(0), stride_, row(-1 - y));
      std::copy_n(row(height - 1), stride_, row(height + y));
    }
    *row(height + kMargin) = 0;
  }

  const float* values() const { return values_.get(); }
  int64_t stride() const { return stride_; }

 private:
  float* row(int64_t y) { return values_.get() + (y + kMargin) * stride_; }

  static void fill_row(const std::uint8_t* from, int64_t width, float* to) {
    float* middle = to + 3 * kMargin;
    to_floats(from, 3 * width, middle);
    for (int64_t i = 0; i < 3 * kMargin; ++i) {
      to[i] = from[i % 3];
      middle[3 * width + i] = from[3 * (width - 1) + i % 3];
    }
  }

  int64_t stride_;
  std::unique_ptr<float[]> values_;
};

/// Where the pixels of a row of the result come from.
struct RowPlaces {
  explicit RowPlaces(int64_t width)
      : x(static_cast<std::size_t>(width)),
        y(x.size()),
        inside(x.size()),
        offset(x.size()),
        dx(x.size()),
        dy(x.size()),
        across(x.size()),
        down(x.size()) {}

  std::vector<double> x, y;
  std::vector<std::uint8_t> inside;
  std::vector<int64_t> offset;  ///< Of the first of the taps in the padded image.
  std::vector<float> dx, dy;    ///< From the second of the taps.
  std::vector<Weights> across, down;
};

struct Extent {
  int64_t height, width, stride;
};

/// The places of pixels 0 ... width - 1 of `row`, with the weights of the taps that count.
VRWKV_VECTOR_CLONES
void find_places(const Affine& map, Taps taps, int64_t row, const Extent& image, RowPlaces& places) {
  const double center = static_cast<double>(row) + 0.5;
  const auto width = static_cast<double>(image.width), height = static_cast<double>(image.height);
  const double a = map.a, by = map.b * center, c = map.c, d = map.d, ey = map.e * center, f = map.f;
  const auto count = static_cast<std::int32_t>(image.width);
  double* __restrict xs = places.x.data();
  double* __restrict ys = places.y.data();
  std::uint8_t* __restrict inside = places.inside.data();
  int64_t* __restrict offset = places.offset.data();
  float* __restrict dx = places.dx.data();
  float* __restrict dy = places.dy.data();
  Weights* __restrict across = places.across.data();
  Weights* __restrict down = places.down.data();
  for (std::int32_t i = 0; i < count; ++i) {
    const double column = static_cast<double>(i) + 0.5;
    xs[i] = a * column + by + c;
    ys[i] = d * column + ey + f;
  }
  for (std::int32_t i = 0; i < count; ++i) {
    inside[i] = static_cast<std::uint8_t>((xs[i] >= 0.0) & (xs[i] < width) & (ys[i] >= 0.0) & (ys[i] < height));
  }
  for (std::int32_t i = 0; i < count; ++i) {
    // Places outside are moved to the border, so that they are numbers, too.
    const double x = std::min(std::max(xs[i], 0.0), width) - 0.5;
    const double y = std::min(std::max(ys[i], 0.0), height) - 0.5;
    const double left = std::floor(x), top = std::floor(y);
    offset[i] = int64_t{static_cast<std::int32_t>(top) + 1} * image.stride + 3 * (static_cast<std::int32_t>(left) + 1);
    dx[i] = static_cast<float>(x - left);
    dy[i] = static_cast<float>(y - top);
  }
  for (std::int32_t i = 0; taps != Taps::down && i < count; ++i) across[i] = cubic_weights(dx[i]);
  for (std::int32_t i = 0; taps != Taps::across && i < count; ++i) down[i] = cubic_weights(dy[i]);
}

/// The row's levels from `first` to `last` to `levels`, 3 of each pixel and one value more.
VRWKV_VECTOR_CLONES
void interpolate(const PaddedImage& image, const RowPlaces& places, Taps taps, int64_t first, int64_t last,
                 float* levels) {
  const float* const values = image.values();
  const int64_t stride = image.stride();
  const int64_t* const offset = places.offset.data();
  const Weights* const across = places.across.data();
  const Weights* const down = places.down.data();
  const auto store = [&](int64_t i, const Pixel& level) {
    std::memcpy(levels + 3 * (i - first), &level, sizeof level);
  };
  const auto along_row = [&](int64_t i, const float* from) {
    return (load(from) * across[i].w0 + load(from + 3) * across[i].w1) +
           (load(from + 6) * across[i].w2 + load(from + 9) * across[i].w3);
  };
  if (taps == Taps::across) {
    for (int64_t i = first; i < last; ++i) store(i, along_row(i, values + offset[i] + stride));
  } else if (taps == Taps::down) {
    for (int64_t i = first; i < last; ++i) {
      const float* from = values + offset[i] + 3;
      store(i, (load(from) * down[i].w0 + load(from + stride) * down[i].w1) +
                   (load(from + 2 * stride) * down[i].w2 + load(from + 3 * stride) * down[i].w3));
    }
  } else {
    for (int64_t i = first; i < last; ++i) {
      const float* from = values + offset[i];
      store(i, (along_row(i, from) * down[i].w0 + along_row(i, from + stride) * down[i].w1) +
                   (along_row(i, from + 2 * stride) * down[i].w2 + along_row(i, from + 3 * stride) * down[i].w3));
    }
  }
}

/// Drops the fractions of `count` levels, limited to 0 ... 255; `doubtful` are those that kDoubt may move. Returns
/// whether there are any.
VRWKV_VECTOR_CLONES
bool to_bytes(const float* __restrict levels, int64_t count, std::uint8_t* __restrict bytes,
              std::uint8_t* __restrict doubtful) {
  int any = 0;
  for (int64_t i = 0; i < count; ++i) {
    const float level = levels[i];
    const float limited = std::min(std::max(level, 0.0F), 255.0F);
    const auto whole = static_cast<std::int32_t>(limited);
    const float fraction = limited - static_cast<float>(whole);
    const int near = (fraction < kDoubt) | (fraction > 1 - kDoubt);
    const int within = (level > -kDoubt) & (level < 255 + kDoubt);
    bytes[i] = static_cast<std::uint8_t>(whole);
    doubtful[i] = static_cast<std::uint8_t>(near & within);
    any |= near & within;
  }
  return any != 0;
}

/// The level of one channel at (x, y) within the image, as Pillow computes it; cubic(..., 0) is its second value.
std::uint8_t exact_level(const float* first_tap, int64_t stride, Taps taps, double x, double y) {
  const double dx = x - 0.5 - std::floor(x - 0.5);
  const double dy = y - 0.5 - std::floor(y - 0.5);
  const auto along_row = [&](int64_t row) {
    const float* tap = first_tap + row * stride;
    return taps == Taps::down ? tap[3] : cubic(tap[0], tap[3], tap[6], tap[9], dx);
  };
  const double level =
      taps == Taps::across ? along_row(1) : cubic(along_row(0), along_row(1), along_row(2), along_row(3), dy);
  return static_cast<std::uint8_t>(std::clamp(level, 0.0, 255.0));
}

/// The first place from `begin` on where `flags` has `value`, or `end`. By memchr, which looks at many bytes at once.
int64_t next_of(int value, const std::vector<std::uint8_t>& flags, int64_t begin, int64_t end) {
  const auto* found =
      static_cast<const std::uint8_t*>(std::memchr(flags.data() + begin, value, static_cast<std::size_t>(end - begin)));
  return found == nullptr ? end : found - flags.data();
}

void fill(std::uint8_t* begin, std::uint8_t* end) {
  for (; begin != end; begin += kFill.size()) std::ranges::copy(kFill, begin);
}

}  // namespace

void transform_bicubic(const std::uint8_t* from, int64_t height, int64_t width, const Affine& map, std::uint8_t* to) {
  const PaddedImage image(from, height, width);
  const Extent extent{height, width, image.stride()};
  const Taps taps = taps_of(map);
  RowPlaces places(width);
  std::vector<float> levels(static_cast<std::size_t>(3 * width + 1));
  std::vector<std::uint8_t> doubtful(static_cast<std::size_t>(3 * width));
  for (int64_t row = 0; row < height; ++row, to += 3 * width) {
    find_places(map, taps, row, extent, places);
    // A line meets the image in one piece.
    const int64_t first = next_of(1, places.inside, 0, width);
    const int64_t last = next_of(0, places.inside, first, width);
    fill(to, to + 3 * first);
    fill(to + 3 * last, to + 3 * width);
    interpolate(image, places, taps, first, last, levels.data());
    if (!to_bytes(levels.data(), 3 * (last - first), to + 3 * first, doubtful.data())) continue;
    const int64_t count = 3 * (last - first);
    for (int64_t i = next_of(1, doubtful, 0, count); i < count; i = next_of(1, doubtful, i + 1, count)) {
      const auto column = static_cast<std::size_t>(first + i / 3);
      to[3 * first + i] = exact_level(image.values() + places.offset[column] + i % 3, image.stride(), taps,
                                      places.x[column], places.y[column]);
    }
  }
}

}  // namespace vrwkv::data::augment

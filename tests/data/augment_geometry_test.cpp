#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "data/augment/bicubic.h"
#include "data/resize.h"
#include "tests/data/test_data.h"

namespace vrwkv::data::augment {
namespace {

double cubic(const std::array<double, 4>& v, double t) {
  const double linear = -v[0] + v[2];
  const double square = 2 * (v[0] - v[1]) + v[2] - v[3];
  const double cube = -v[0] + v[1] - v[2] + v[3];
  return v[1] + t * (linear + t * (square + t * cube));
}

/// Pillow's Image.transform(AFFINE, BICUBIC), pixel by pixel in float64.
at::Tensor reference(const at::Tensor& image, const Affine& map) {
  constexpr std::array<std::uint8_t, 3> kFill{124, 116, 104};
  const int64_t height = image.size(0), width = image.size(1);
  const auto from = image.accessor<std::uint8_t, 3>();
  at::Tensor result = at::empty_like(image);
  auto to = result.accessor<std::uint8_t, 3>();
  for (int64_t row = 0; row < height; ++row) {
    for (int64_t column = 0; column < width; ++column) {
      const double u = static_cast<double>(column) + 0.5, v = static_cast<double>(row) + 0.5;
      const double x = map.a * u + map.b * v + map.c, y = map.d * u + map.e * v + map.f;
      const bool inside = x >= 0 && x < static_cast<double>(width) && y >= 0 && y < static_cast<double>(height);
      const double left = std::floor(x - 0.5), top = std::floor(y - 0.5);
      for (int64_t c = 0; c < 3; ++c) {
        to[row][column][c] = kFill[static_cast<std::size_t>(c)];
        if (!inside) continue;
        std::array<double, 4> across, taps;
        for (int64_t i = 0; i < 4; ++i) {
          const int64_t line = std::clamp<int64_t>(static_cast<int64_t>(top) - 1 + i, 0, height - 1);
          for (int64_t j = 0; j < 4; ++j) {
            taps[static_cast<std::size_t>(j)] =
                from[line][std::clamp<int64_t>(static_cast<int64_t>(left) - 1 + j, 0, width - 1)][c];
          }
          across[static_cast<std::size_t>(i)] = cubic(taps, x - 0.5 - left);
        }
        to[row][column][c] = static_cast<std::uint8_t>(std::clamp(cubic(across, y - 0.5 - top), 0.0, 255.0));
      }
    }
  }
  return result;
}

/// Noise, black and white (whose interpolated levels leave 0 ... 255), slow changes, and two plain halves.
std::array<at::Tensor, 4> pictures(int64_t height, int64_t width, std::uint64_t seed) {
  const at::Tensor noise = testing::random_image(height, width, seed);
  at::Tensor halves = at::full({height, width, 3}, 255, at::kByte);
  halves.narrow(1, width / 2, width - width / 2).fill_(7);
  return {noise, noise.ge(128).to(at::kByte) * 255, resize(testing::random_image(3, 4, seed), height, width), halves};
}

TEST(Bicubic, IsTheFormulaOnEveryPixel) {
  Generator generator(3, 0, 0, RandomStream::transform);
  for (const auto& [height, width] :
       {std::pair<int64_t, int64_t>{64, 80}, {37, 29}, {1, 40}, {50, 1}, {1, 1}, {2, 3}}) {
    for (const at::Tensor& image : pictures(height, width, static_cast<std::uint64_t>(height))) {
      for (int trial = 0; trial < 40; ++trial) {
        const auto draw = [&](double reach) { return generator.uniform(-reach, reach); };
        const auto side = static_cast<double>(std::max(height, width));
        // Anything; what keeps the columns; what keeps the rows; whole and half pixels, whose levels are whole often.
        const std::array<Affine, 4> maps{
            Affine{1 + draw(0.5), draw(0.5), draw(side), draw(0.5), 1 + draw(0.5), draw(side)},
            Affine{.d = draw(0.4), .f = draw(side)}, Affine{.b = draw(0.4), .c = draw(side)},
            Affine{.c = std::round(draw(side)) / 2, .f = std::round(draw(side)) / 4}};
        const Affine& map = maps[static_cast<std::size_t>(trial) % maps.size()];
        at::Tensor result = at::empty_like(image);
        transform_bicubic(image.const_data_ptr<std::uint8_t>(), height, width, map,
                          result.mutable_data_ptr<std::uint8_t>());
        ASSERT_TRUE(result.equal(reference(image, map)))
            << height << " x " << width << ": " << map.a << " " << map.b << " " << map.c << " " << map.d << " " << map.e
            << " " << map.f;
      }
    }
  }
}

}  // namespace
}  // namespace vrwkv::data::augment

#include "tools/heat_picture.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <cstring>

namespace vrwkv::tools {
namespace {

constexpr int64_t kMargin = 8, kBarWidth = 16;
constexpr double kWhite = 255.0;

/// The share of the heat in what lies over an image.
constexpr double kShare = 0.65;

using Color = std::array<double, 3>;
constexpr std::array<Color, 6> kHeat{
    {{0, 0, 0}, {60, 10, 110}, {150, 30, 110}, {225, 70, 50}, {250, 160, 30}, {255, 250, 190}}};

at::Tensor blank(int64_t height, int64_t width) { return at::full({height, width, 3}, kWhite, at::kByte); }

/// Brightness (ITU-R BT.601) of uint8 [H, W, 3], in all colours, float64: what lies under the heat takes no colour of
/// its own to it.
at::Tensor grey(const at::Tensor& image) {
  const at::Tensor colors = image.to(at::kDouble);
  return (0.299 * colors.select(2, 0) + 0.587 * colors.select(2, 1) + 0.114 * colors.select(2, 2))
      .unsqueeze(-1)
      .expand_as(colors);
}

/// Rectangle of `picture`, a view.
at::Tensor part(const at::Tensor& picture, int64_t top, int64_t left, int64_t height, int64_t width) {
  return picture.narrow(0, top, height).narrow(1, left, width);
}

/// A white frame with a black one around it, inside of a rectangle.
void draw_frame(at::Tensor& picture, int64_t top, int64_t left, int64_t height, int64_t width) {
  const at::Tensor inside = part(picture, top, left, height, width).clone();
  const int64_t line = std::max<int64_t>(1, std::min(height, width) / 16);
  const auto fill = [&](int64_t inset, double level) {
    if (height > 2 * inset && width > 2 * inset) {
      part(picture, top + inset, left + inset, height - 2 * inset, width - 2 * inset).fill_(level);
    }
  };
  fill(0, 0);
  fill(line, kWhite);
  const int64_t inset = 2 * line;
  if (height <= 2 * inset || width <= 2 * inset) return;
  part(picture, top + inset, left + inset, height - 2 * inset, width - 2 * inset)
      .copy_(part(inside, inset, inset, height - 2 * inset, width - 2 * inset));
}

}  // namespace

at::Tensor heat_colors(const at::Tensor& values) {
  constexpr auto kSteps = static_cast<double>(kHeat.size() - 1);
  const at::Tensor place = values.to(at::kCPU, at::kDouble).clamp(0, 1) * kSteps;
  const at::Tensor below = place.floor().clamp_max(kSteps - 1);
  const at::Tensor share = (place - below).unsqueeze(-1);
  at::Tensor table = at::empty({std::ssize(kHeat), 3}, at::kDouble);
  std::memcpy(table.mutable_data_ptr(), kHeat.data(), sizeof(kHeat));
  const at::Tensor index = below.to(at::kLong);
  return at::lerp(table.index({index}), table.index({index + 1}), share).round().to(at::kByte);
}

at::Tensor log_scaled(const at::Tensor& values, double decades) {
  const at::Tensor wide = values.to(at::kCPU, at::kDouble);
  const double largest = wide.max().item<double>();
  if (largest <= 0) return at::zeros_like(wide);
  return ((wide / largest).log10() / decades + 1).clamp(0, 1);
}

at::Tensor range_scaled(const at::Tensor& values) {
  const at::Tensor wide = values.to(at::kCPU, at::kDouble);
  const at::Tensor above = wide - wide.min();
  const double range = above.max().item<double>();
  return range > 0 ? above / range : at::zeros_like(above);
}

at::Tensor enlarged(const at::Tensor& picture, int64_t factor) {
  return picture.repeat_interleave(factor, 0).repeat_interleave(factor, 1);
}

at::Tensor heat_over_image(const at::Tensor& image, const at::Tensor& values, std::pair<int64_t, int64_t> token) {
  const int64_t height = image.size(0) / values.size(0), width = image.size(1) / values.size(1);
  const at::Tensor wide = values.repeat_interleave(height, 0).repeat_interleave(width, 1);
  at::Tensor heated = at::lerp(grey(image), heat_colors(wide).to(at::kDouble), kShare).round().to(at::kByte);
  draw_frame(heated, token.first * height, token.second * width, height, width);
  return at::cat({image, blank(image.size(0), kMargin), heated}, 1);
}

at::Tensor framed(const std::vector<at::Tensor>& pictures) {
  int64_t height = kMargin;
  for (const at::Tensor& picture : pictures) height += picture.size(0) + kMargin;
  const int64_t width = pictures.front().size(1);
  at::Tensor whole = blank(height, width + kBarWidth + 3 * kMargin);
  int64_t top = kMargin;
  for (const at::Tensor& picture : pictures) {
    part(whole, top, kMargin, picture.size(0), width).copy_(picture);
    top += picture.size(0) + kMargin;
  }
  const int64_t bar = height - 2 * kMargin;
  const at::Tensor scale = at::linspace(1, 0, bar, at::kDouble).unsqueeze(1).expand({bar, kBarWidth});
  part(whole, kMargin, width + 2 * kMargin, bar, kBarWidth).copy_(heat_colors(scale));
  return whole;
}

}  // namespace vrwkv::tools

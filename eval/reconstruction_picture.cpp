#include "eval/reconstruction_picture.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <numeric>
#include <string>

#include "cli/output.h"
#include "data/image_codec.h"
#include "data/image_sheet.h"
#include "data/image_source.h"
#include "data/transforms.h"
#include "eval/evaluator.h"
#include "eval/mae_evaluator.h"
#include "vrwkv/mae_pixels.h"

namespace vrwkv::eval {

at::Tensor first_views(const data::Dataset& dataset, int64_t count, const data::EvalTransformOptions& transform) {
  std::vector<at::Tensor> views;
  for (int64_t i = 0; i < std::min(count, dataset.size()); ++i) {
    const data::EncodedSample sample = dataset.get(i);
    views.push_back(data::eval_view(data::ImageSource(sample.bytes), transform));
  }
  return at::stack(views);
}

at::Tensor reconstructions(MaskedAutoencoder model, const at::Tensor& views, const data::NormalizeOptions& normalize,
                           const Precision& precision, int64_t first) {
  const EvaluationMode evaluation_mode(*model);
  const at::NoGradGuard no_grad;
  const at::Tensor images = data::normalize(views.to(precision.device), normalize, weights_dtype(precision.dtype));
  const Grid grid = model->grid(images);
  std::vector<int64_t> indices(static_cast<std::size_t>(views.size(0)));
  std::iota(indices.begin(), indices.end(), first);
  const PrecisionGuard guard(precision);
  const auto [error, prediction, mask] = model(images, fixed_noise(indices, grid.tokens()).to(precision.device));

  const int64_t patch_size = model->options().backbone.patch_size;
  const at::Tensor pixels = patch_pixels(images, patch_size);
  at::Tensor predicted = prediction.to(pixels.scalar_type());
  if (model->options().mae.norm_pix_loss) {
    const auto [mean, deviation] = patch_scale(pixels);
    predicted = predicted * deviation + mean;
  }
  const at::Tensor hidden = mask.unsqueeze(2) > 0;
  const auto levels = [&](const at::Tensor& patches) {
    return data::grey_levels(image_of_patches(patches, patch_size, grid), normalize);
  };
  constexpr int64_t kGrey = 128;
  const at::Tensor visible = levels(pixels).masked_fill(
      image_of_patches(hidden.expand_as(pixels), patch_size, grid).permute({0, 2, 3, 1}).cpu(), kGrey);
  return at::stack({views, visible, levels(at::where(hidden, predicted, pixels))}, 1);
}

void draw_reconstructions(const MaskedAutoencoder& model, const at::Tensor& views,
                          const data::NormalizeOptions& normalize, const Precision& precision,
                          const std::filesystem::path& png) {
  constexpr int64_t kAtOnce = 32;
  std::vector<at::Tensor> rows;
  for (int64_t first = 0; first < views.size(0); first += kAtOnce) {
    const at::Tensor some = views.slice(0, first, std::min(first + kAtOnce, views.size(0)));
    rows.push_back(reconstructions(model, some, normalize, precision, first));
  }
  const at::Tensor sheet = data::image_sheet(at::cat(rows));
  const std::vector<std::uint8_t> bytes = data::encode_png(sheet);
  cli::write_output(png.string(), std::string(bytes.begin(), bytes.end()));
}

}  // namespace vrwkv::eval

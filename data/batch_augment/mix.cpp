#include "data/batch_augment/mix.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <cmath>
#include <functional>

namespace vrwkv::data {
namespace {

/// Logarithm of a draw of Gamma(shape, 1) (Marsaglia and Tsang 2000, at shape + 1, brought down by a power of a uniform
/// draw). The logarithm keeps small shapes from vanishing.
double log_gamma_draw(double shape, Generator& generator) {
  const double d = shape + 1.0 - 1.0 / 3.0;
  const double c = 1.0 / std::sqrt(9.0 * d);
  while (true) {
    const double x = generator.normal();
    const double v = std::pow(1.0 + c * x, 3.0);
    const double u = 1.0 - generator.uniform();
    if (v > 0.0 && std::log(u) < 0.5 * x * x + d - d * v + d * std::log(v)) {
      return std::log(d * v) + std::log(1.0 - generator.uniform()) / shape;
    }
  }
}

double beta_draw(double alpha, Generator& generator) {
  const double first = log_gamma_draw(alpha, generator);
  const double second = log_gamma_draw(alpha, generator);
  return 1.0 / (1.0 + std::exp(second - first));
}

MixedRow cut(int64_t height, int64_t width, double lambda, Generator& generator) {
  const double side = std::sqrt(1.0 - lambda);
  const auto rows = static_cast<int64_t>(static_cast<double>(height) * side);
  const auto columns = static_cast<int64_t>(static_cast<double>(width) * side);
  const int64_t middle_y = generator.integer(height);
  const int64_t middle_x = generator.integer(width);
  const int64_t top = std::max<int64_t>(middle_y - rows / 2, 0);
  const int64_t left = std::max<int64_t>(middle_x - columns / 2, 0);
  const int64_t bottom = std::min(middle_y + rows / 2, height);
  const int64_t right = std::min(middle_x + columns / 2, width);
  MixedRow row;
  row.box = {top, left, bottom - top, right - left};
  row.label = 1.0 - static_cast<double>(row.box.height * row.box.width) / static_cast<double>(height * width);
  return row;
}

MixedRow draw_row(int64_t height, int64_t width, const MixOptions& options, Generator& generator) {
  if (generator.uniform() >= options.prob) {
    return {};
  }
  const bool both = options.mixup_alpha > 0.0 && options.cutmix_alpha > 0.0;
  const bool cutmix = both ? generator.uniform() < options.switch_prob : options.cutmix_alpha > 0.0;
  const double lambda = beta_draw(cutmix ? options.cutmix_alpha : options.mixup_alpha, generator);
  if (cutmix) {
    return cut(height, width, lambda, generator);
  }
  MixedRow row;
  row.blend = lambda;
  row.label = lambda;
  return row;
}

/// `field(row)` of every row as a tensor of `options`; the host does not wait for the copy to a device.
template <class Value, class Field>
at::Tensor column(const std::vector<MixedRow>& rows, const Field& field, const at::TensorOptions& options) {
  std::vector<Value> values;
  values.reserve(rows.size());
  for (const MixedRow& row : rows) {
    values.push_back(std::invoke(field, row));
  }
  return at::tensor(values).to(options, /*non_blocking=*/true);
}

at::Tensor partners(const std::vector<MixedRow>& rows, at::Device device) {
  return column<int64_t>(rows, &MixedRow::partner, at::TensorOptions(at::kLong).device(device));
}

}  // namespace

std::vector<MixedRow> draw_mix(int64_t size, int64_t height, int64_t width, const MixOptions& options,
                               Generator& generator) {
  std::vector<MixedRow> rows(static_cast<std::size_t>(size));
  const std::vector<int64_t> order = permutation(size, generator);
  const MixedRow common = draw_row(height, width, options, generator);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    rows[i] = options.mode == MixMode::batch ? common : draw_row(height, width, options, generator);
    rows[i].partner = order[i];
  }
  return rows;
}

at::Tensor mix_images(const at::Tensor& images, const std::vector<MixedRow>& rows) {
  TORCH_CHECK(images.is_floating_point() && images.dim() == 4 && images.size(0) == std::ssize(rows),
              "mix_images: images must be floating point [B, C, H, W] with a row for each, got ", images.scalar_type(),
              " ", images.sizes(), " and ", rows.size(), " rows");
  const auto whole = images.options().dtype(at::kLong);
  const auto bounds = [&](const auto& field) { return column<int64_t>(rows, field, whole).view({-1, 1, 1, 1}); };
  const at::Tensor y = at::arange(images.size(2), whole).view({1, 1, -1, 1});
  const at::Tensor x = at::arange(images.size(3), whole).view({1, 1, 1, -1});
  const at::Tensor inside = (y >= bounds([](const MixedRow& row) { return row.box.top; })) &
                            (y < bounds([](const MixedRow& row) { return row.box.top + row.box.height; })) &
                            (x >= bounds([](const MixedRow& row) { return row.box.left; })) &
                            (x < bounds([](const MixedRow& row) { return row.box.left + row.box.width; }));
  const at::Tensor blend = column<double>(rows, &MixedRow::blend, images.options()).view({-1, 1, 1, 1});
  const at::Tensor own = blend.masked_fill(inside, 0.0);
  return images * own + images.index_select(0, partners(rows, images.device())) * (1.0 - own);
}

at::Tensor mix_labels(const at::Tensor& labels, const std::vector<MixedRow>& rows, int64_t classes) {
  TORCH_CHECK(labels.scalar_type() == at::kLong && labels.dim() == 1 && labels.size(0) == std::ssize(rows),
              "mix_labels: labels must be int64 [B] with a row for each, got ", labels.scalar_type(), " ",
              labels.sizes(), " and ", rows.size(), " rows");
  const auto options = labels.options().dtype(at::kFloat);
  const at::Tensor own = column<double>(rows, &MixedRow::label, options).unsqueeze(1);
  const at::Tensor others = labels.index_select(0, partners(rows, labels.device()));
  at::Tensor targets = at::zeros({labels.size(0), classes}, options);
  targets.scatter_add_(1, labels.unsqueeze(1), own);
  return targets.scatter_add_(1, others.unsqueeze(1), 1.0 - own);
}

}  // namespace vrwkv::data

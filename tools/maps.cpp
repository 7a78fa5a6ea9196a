#include "tools/maps.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <c10/core/GradMode.h>

#include <algorithm>

#include "common/errors.h"
#include "data/read_image.h"
#include "data/transforms.h"
#include "tools/bi_wkv_weights.h"
#include "tools/heat_picture.h"
#include "tools/receptive_field.h"

namespace vrwkv::tools {
namespace {

/// Pictures are enlarged until their side has so many pixels.
constexpr int64_t kSmallSide = 224, kLargeSide = 448;

int64_t factor_to(int64_t side, int64_t wanted) { return std::max<int64_t>(1, (wanted + side - 1) / side); }

int64_t grid_side(const config::RunConfig& config) {
  return config.data.eval_transform.size / config.model.backbone.patch_size;
}

std::pair<int64_t, int64_t> token_of(const MapOptions& options, const config::RunConfig& config) {
  return options.token.value_or(std::pair(grid_side(config) / 2, grid_side(config) / 2));
}

/// uint8 [B, S, S, 3].
at::Tensor views(const MapOptions& options, const config::RunConfig& config) {
  std::vector<at::Tensor> read;
  for (const std::string& path : options.images) {
    read.push_back(data::eval_view(data::read_image(path), config.data.eval_transform));
  }
  return at::stack(read);
}

at::Tensor to_input(const at::Tensor& seen, const config::RunConfig& config, const eval::Precision& precision) {
  return data::normalize(seen.to(precision.device), config.data.normalize, eval::weights_dtype(precision.dtype));
}

/// Standard normal in normalised units, [B, channels, S, S].
at::Tensor noise_input(const MapOptions& options, const config::RunConfig& config, const eval::Precision& precision) {
  const int64_t size = config.data.eval_transform.size;
  const at::Generator generator = at::detail::createCPUGenerator(static_cast<std::uint64_t>(config.run.seed));
  const at::Tensor noise = at::randn({options.noise, config.model.backbone.in_channels, size, size}, generator,
                                     at::TensorOptions(eval::weights_dtype(precision.dtype)));
  return noise.to(precision.device);
}

at::Tensor draw_receptive_field(VrwkvClassifier& model, const MapOptions& options, const config::RunConfig& config,
                                const eval::Precision& precision) {
  const at::Tensor input =
      options.noise > 0 ? noise_input(options, config, precision) : to_input(views(options, config), config, precision);
  at::Tensor squares = at::zeros({input.size(2), input.size(3)}, at::kDouble);
  const auto batches = input.split(config.eval.batch_size);
  for (const at::Tensor& batch : batches) {
    const at::Tensor field = receptive_field(model->backbone, batch, options.probes, config.run.seed, precision);
    squares += field.square() * (static_cast<double>(batch.size(0)) / static_cast<double>(input.size(0)));
  }
  const at::Tensor scaled = log_scaled(squares.sqrt(), kReceptiveFieldDecades);
  return framed({enlarged(heat_colors(scaled), factor_to(scaled.size(0), kLargeSide))});
}

/// Values of one image's tokens, [h, w], within 0 ... 1.
at::Tensor attention(VrwkvClassifier& model, const at::Tensor& input, int64_t layer, int64_t token, Grid grid) {
  const BiWkvInputs inputs = model->backbone->bi_wkv_inputs(input, layer);
  const at::Tensor weights = bi_wkv_weights(inputs, token, model->backbone->options().wkv);
  return log_scaled(weights.to(at::kDouble).mean(2).view({grid.height, grid.width}), kAttentionDecades);
}

at::Tensor similarity(VrwkvClassifier& model, const at::Tensor& input, int64_t token) {
  const at::Tensor map = model->backbone->forward(input).front()[0].to(at::kDouble);
  const at::Tensor features = map.flatten(1);
  const at::Tensor cosines = at::cosine_similarity(features, features.select(1, token).unsqueeze(1), 0);
  return range_scaled(cosines.view({map.size(1), map.size(2)}));
}

at::Tensor draw_tokens(VrwkvClassifier& model, const MapOptions& options, const config::RunConfig& config,
                       const eval::Precision& precision) {
  const c10::AutoGradMode no_gradients(false);
  const eval::PrecisionGuard guard(precision);
  const Grid grid{grid_side(config), grid_side(config)};
  const auto [row, column] = token_of(options, config);
  const int64_t token = row * grid.width + column;
  std::vector<at::Tensor> pictures;
  for (const at::Tensor& view : views(options, config).split(1)) {
    const at::Tensor input = to_input(view, config, precision);
    const at::Tensor values = options.kind == MapKind::attention ? attention(model, input, options.layer, token, grid)
                                                                 : similarity(model, input, token);
    const at::Tensor image = enlarged(view[0], factor_to(view.size(1), kSmallSide));
    pictures.push_back(heat_over_image(image, values, {row, column}));
  }
  return framed(pictures);
}

void check_token(const MapOptions& options, const config::RunConfig& config) {
  const int64_t side = grid_side(config);
  const auto [row, column] = token_of(options, config);
  if (row >= 0 && row < side && column >= 0 && column < side) return;
  const std::string last = std::to_string(side - 1);
  throw UsageError("--token: images of " + std::to_string(config.data.eval_transform.size) +
                   " pixels have rows and columns of patches from 0 to " + last + ", got " + std::to_string(row) + "," +
                   std::to_string(column));
}

}  // namespace

void check_maps(const MapOptions& options, const config::RunConfig& config) {
  const VrwkvOptions& backbone = config.model.backbone;
  const bool field = options.kind == MapKind::receptive_field;
  if (config.data.eval_transform.size % backbone.patch_size != 0) {
    throw UsageError("data.eval_transform.size must be a multiple of model.patch_size (" +
                     std::to_string(backbone.patch_size) + "), got " + std::to_string(config.data.eval_transform.size));
  }
  if (options.layer < 0 || options.layer >= backbone.depth) {
    throw UsageError("--layer must be 0 to " + std::to_string(backbone.depth - 1) + ", got " +
                     std::to_string(options.layer));
  }
  if (options.kind == MapKind::attention && backbone.attention == Attention::bi_wkv6) {
    throw UsageError(
        "--kind attention is of Bi-WKV, which a network with model.attention bi_wkv6 has not; use "
        "features or receptive_field");
  }
  if (field && options.token) throw UsageError("--kind receptive_field is of the central token; leave --token out");
  if (!field && options.noise > 0) throw UsageError("--noise goes with --kind receptive_field alone; give images");
  if (options.noise > 0 && !options.images.empty()) {
    throw UsageError("--noise and image files cannot go together, got the image " + options.images.front());
  }
  if (options.noise == 0 && options.images.empty()) {
    throw UsageError(std::string("nothing to draw: give image files") + (field ? ", or --noise N" : ""));
  }
  check_token(options, config);
}

at::Tensor draw_maps(VrwkvClassifier model, const MapOptions& options, const config::RunConfig& config,
                     const eval::Precision& precision) {
  return options.kind == MapKind::receptive_field ? draw_receptive_field(model, options, config, precision)
                                                  : draw_tokens(model, options, config, precision);
}

}  // namespace vrwkv::tools

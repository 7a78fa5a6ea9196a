#include "vrwkv/masked_autoencoder.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "common/errors.h"
#include "tests/support/assert_close.h"
#include "tests/support/devices.h"
#include "tests/support/golden.h"
#include "vrwkv/autocast.h"
#include "vrwkv/checkpoint/state_dict.h"
#include "vrwkv/mae_pixels.h"
#include "vrwkv/sincos_pos_embed.h"

namespace vrwkv::testing {
namespace {

MaskedAutoencoderOptions golden_options(const Safetensors& golden) {
  const auto config = nlohmann::json::parse(golden.metadata.at("config"));
  MaskedAutoencoderOptions options;
  VrwkvOptions& backbone = options.backbone;
  backbone.img_size = config.at("img_size");
  backbone.patch_size = config.at("patch_size");
  backbone.embed_dims = config.at("embed_dim");
  backbone.depth = config.at("depth");
  backbone.init_values = config.at("init_values").get<double>();
  backbone.post_norm = config.at("post_norm");
  backbone.key_norm = config.at("key_norm");
  backbone.shift = Shift::single_shift;
  options.mae.mask_ratio = config.at("mask_ratio");
  options.mae.norm_pix_loss = config.at("norm_pix_loss");
  options.mae.decoder_embed_dims = config.at("decoder_embed_dim");
  options.mae.decoder_depth = config.at("decoder_depth");
  options.mae.double_pos_embed = true;
  return options;
}

MaskedAutoencoder load(const Safetensors& golden, const MaskedAutoencoderOptions& options) {
  MaskedAutoencoder model(options);
  std::map<std::string, at::Tensor> state;
  for (const auto& [name, tensor] : golden.tensors) {
    if (name.starts_with("state.")) state.emplace(name.substr(6), tensor);
  }
  load_state_dict(*model, state);
  return model;
}

/// Loss, prediction, mask and all gradients against the file's values.
void check(const Safetensors& golden, MaskedAutoencoder model, at::Device device, at::ScalarType dtype,
           double tolerance, double gradient_tolerance) {
  model->to(device, dtype);
  const auto [error, prediction, mask] =
      model(golden.tensors.at("input").to(device, dtype), golden.tensors.at("noise").to(device));
  EXPECT_TRUE(close("prediction", golden.tensors.at("pred"), prediction, tolerance));
  EXPECT_TRUE(at::equal(golden.tensors.at("mask"), mask.cpu()));
  const at::Tensor loss = error.mean();
  EXPECT_TRUE(close("loss", golden.tensors.at("loss"), loss, tolerance));
  loss.backward();
  const auto parameters = model->named_parameters();
  for (const auto& parameter : parameters) {
    const auto expected = golden.tensors.find("grad." + parameter.key());
    ASSERT_NE(expected, golden.tensors.end()) << parameter.key();
    const at::Tensor gradient = parameter.value().grad().to(at::kFloat);
    EXPECT_TRUE(close(parameter.key(), expected->second, gradient, gradient_tolerance, 1e-9));
  }
  size_t gradients = 0;
  for (const auto& [name, tensor] : golden.tensors) gradients += name.starts_with("grad.") ? 1 : 0;
  EXPECT_EQ(parameters.size(), gradients);
}

class GoldenMae : public ::testing::TestWithParam<at::Device> {};

INSTANTIATE_TEST_SUITE_P(Devices, GoldenMae, ::testing::ValuesIn(devices()), device_name);

TEST_P(GoldenMae, MatchesLossPredictionAndGradients) {
  const Safetensors golden = read_golden("mae.safetensors");
  const MaskedAutoencoderOptions options = golden_options(golden);
  check(golden, load(golden, options), GetParam(), at::kFloat, 1e-5, 1e-3);
  check(golden, load(golden, options), GetParam(), at::kDouble, 1e-10, 1e-7);
}

TEST_P(GoldenMae, MatchesWithActivationCheckpointing) {
  const Safetensors golden = read_golden("mae.safetensors");
  MaskedAutoencoderOptions options = golden_options(golden);
  options.backbone.with_cp = true;
  check(golden, load(golden, options), GetParam(), at::kFloat, 1e-5, 1e-3);
}

TEST_P(GoldenMae, StaysNearUnderAutocast) {
  const Safetensors golden = read_golden("mae.safetensors");
  MaskedAutoencoder model = load(golden, golden_options(golden));
  model->to(GetParam());
  const at::NoGradGuard no_grad;
  const AutocastGuard autocast(GetParam().type(), at::kBFloat16);
  const auto found = model(golden.tensors.at("input").to(GetParam()), golden.tensors.at("noise").to(GetParam()));
  EXPECT_EQ(found.error.scalar_type(), at::kFloat);
  EXPECT_TRUE(close("loss", golden.tensors.at("loss"), found.error.mean(), 2e-2));
}

MaskedAutoencoderOptions small_options() {
  MaskedAutoencoderOptions options;
  options.backbone.img_size = 24;
  options.backbone.patch_size = 4;
  options.backbone.embed_dims = 16;
  options.backbone.depth = 2;
  options.mae.decoder_embed_dims = 8;
  options.mae.decoder_depth = 1;
  return options;
}

TEST(MaskedAutoencoder, DoublesThePositionEmbeddingOnRequest) {
  torch::manual_seed(1);
  MaskedAutoencoderOptions options = small_options();
  MaskedAutoencoder once(options);
  options.mae.double_pos_embed = true;
  MaskedAutoencoder twice(options);
  load_state_dict(*twice, state_dict(*once));
  {
    const at::NoGradGuard no_grad;
    once->encoder->pos_embed.mul_(2);
  }
  const at::Tensor images = at::randn({2, 3, 24, 24}), noise = masking_noise(2, 36, at::kCPU);
  EXPECT_TRUE(
      close("prediction", once->forward(images, noise).prediction, twice->forward(images, noise).prediction, 1e-6));
}

TEST(MaskedAutoencoder, TakesImagesOfAnotherSize) {
  MaskedAutoencoder model(small_options());
  const at::Tensor images = at::randn({2, 3, 12, 20});
  const auto [error, prediction, mask] = model->forward(images, masking_noise(2, 15, at::kCPU));
  EXPECT_EQ(prediction.sizes(), (std::vector<int64_t>{2, 15, 48}));
  EXPECT_EQ(mask.sum(1).eq(12).sum().item<int64_t>(), 2);
  EXPECT_THROW(model->forward(images, masking_noise(2, 36, at::kCPU)), c10::Error);
}

TEST(MaskedAutoencoder, SeesNothingOfHiddenPatches) {
  torch::manual_seed(2);
  MaskedAutoencoder model(small_options());
  const at::Tensor images = at::randn({3, 3, 24, 24}), noise = masking_noise(3, 36, at::kCPU);
  const auto first = model->forward(images, noise);
  const at::Tensor pixels = patch_pixels(images, 4);
  const at::Tensor others = at::where(first.mask.unsqueeze(2) == 1, at::randn_like(pixels), pixels);
  const auto second = model->forward(image_of_patches(others, 4, {6, 6}), noise);
  EXPECT_TRUE(at::equal(first.prediction, second.prediction));
  EXPECT_FALSE(at::allclose(first.error, second.error));
}

TEST(MaskedAutoencoder, RefusesOptionsByName) {
  const auto message = [](const MaskedAutoencoderOptions& options) -> std::string {
    try {
      validate(options);
    } catch (const UsageError& error) {
      return error.what();
    }
    return "";
  };
  MaskedAutoencoderOptions options = small_options();
  EXPECT_EQ(message(options), "");
  options.mae.mask_ratio = 0.99;
  EXPECT_EQ(
      message(options),
      "mae.mask_ratio must be such that some of the 36 patches are visible and some are not, got 0.98999999999999999");
  options.mae.mask_ratio = 0;
  EXPECT_EQ(message(options), "mae.mask_ratio must be in (0, 1), got 0");
  options = small_options();
  options.mae.decoder_embed_dims = 10;
  EXPECT_EQ(message(options), "mae.decoder_embed_dims must be a multiple of 4, got 10");
  options = small_options();
  options.backbone.embed_dims = 18;
  EXPECT_EQ(message(options), "embed_dims must be a multiple of 4 with masked autoencoding, got 18");
}

TEST(SincosPosEmbed, IsTheFormula) {
  const at::Tensor found = sincos_pos_embed({3, 5}, 24);
  ASSERT_EQ(found.sizes(), (std::vector<int64_t>{1, 15, 24}));
  for (int64_t token = 0; token < 15; ++token) {
    for (int64_t channel = 0; channel < 24; ++channel) {
      const double place = static_cast<double>(channel < 12 ? token % 5 : token / 5);
      const int64_t i = channel % 6;
      const double angle = place * std::pow(10000.0, -static_cast<double>(i) / 6);
      const double expected = channel % 12 < 6 ? std::sin(angle) : std::cos(angle);
      EXPECT_NEAR(found[0][token][channel].item<double>(), expected, 1e-7);
    }
  }
}

TEST(MaePixels, PatchesHoldTheirPixelsAndGoBack) {
  const at::Tensor images = at::randn({2, 3, 6, 9});
  const at::Tensor patches = patch_pixels(images, 3);
  ASSERT_EQ(patches.sizes(), (std::vector<int64_t>{2, 6, 27}));
  // Patch 4 is row 1, column 1; pixel (2, 0) of it, channel 1.
  EXPECT_EQ(patches[1][4][(2 * 3 + 0) * 3 + 1].item<float>(), images[1][1][5][3].item<float>());
  EXPECT_TRUE(at::equal(image_of_patches(patches, 3, {2, 3}), images));
}

TEST(MaePixels, ErrorIsTheMeanOverMaskedPatches) {
  torch::manual_seed(3);
  const at::Tensor patches = at::randn({2, 5, 12}, at::kDouble), prediction = at::randn({2, 5, 12}, at::kDouble);
  const at::Tensor mask = at::tensor({1, 0, 1, 0, 0, 0, 1, 1, 0, 1}, at::kFloat).view({2, 5});
  for (const bool norm_pix : {false, true}) {
    const at::Tensor found = reconstruction_error(patches, prediction, mask, norm_pix);
    for (int64_t image = 0; image < 2; ++image) {
      double sum = 0;
      int64_t count = 0;
      for (int64_t patch = 0; patch < 5; ++patch) {
        if (mask[image][patch].item<float>() == 0) continue;
        double mean = 0, variance = 0;
        for (int64_t i = 0; i < 12; ++i) mean += patches[image][patch][i].item<double>() / 12;
        for (int64_t i = 0; i < 12; ++i) variance += std::pow(patches[image][patch][i].item<double>() - mean, 2) / 11;
        for (int64_t i = 0; i < 12; ++i) {
          double target = patches[image][patch][i].item<double>();
          if (norm_pix) target = (target - mean) / std::sqrt(variance + 1e-6);
          sum += std::pow(prediction[image][patch][i].item<double>() - target, 2) / 12;
        }
        ++count;
      }
      EXPECT_NEAR(found[image].item<double>(), sum / static_cast<double>(count), 1e-12);
    }
  }
}

}  // namespace
}  // namespace vrwkv::testing

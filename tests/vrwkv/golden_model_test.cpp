#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/nn/functional/loss.h>

#include <nlohmann/json.hpp>

#include "tests/support/assert_close.h"
#include "tests/support/devices.h"
#include "tests/support/golden.h"
#include "vrwkv/autocast.h"
#include "vrwkv/checkpoint/state_dict.h"
#include "vrwkv/vrwkv_classifier.h"

namespace vrwkv::testing {
namespace {

ClassifierOptions options_of(const Safetensors& golden) {
  const auto config = nlohmann::json::parse(golden.metadata.at("config"));
  ClassifierOptions options;
  options.num_classes = config.at("num_classes");
  options.backbone.img_size = config.at("img_size");
  options.backbone.embed_dims = config.at("embed_dims");
  options.backbone.depth = config.at("depth");
  if (config.at("type") == "VRWKV6") options.backbone.attention = Attention::bi_wkv6;
  options.backbone.post_norm = config.value("post_norm", false);
  options.backbone.key_norm = config.value("key_norm", false);
  if (config.contains("init_values")) options.backbone.init_values = config.at("init_values").get<double>();
  return options;
}

VrwkvClassifier load(const Safetensors& golden, ClassifierOptions options) {
  VrwkvClassifier model(options);
  std::map<std::string, at::Tensor> state;
  for (const auto& [name, tensor] : golden.tensors) {
    if (name.starts_with("state.")) state.emplace(name.substr(6), tensor);
  }
  load_state_dict(*model, state);
  return model;
}

struct GoldenModel {
  std::string file;
  at::Device device;
};

class GoldenClassifier : public ::testing::TestWithParam<GoldenModel> {};

std::vector<GoldenModel> golden_models() {
  std::vector<GoldenModel> all;
  for (const auto& device : devices()) {
    for (const char* name : {"vrwkv_pre", "vrwkv_post", "vrwkv_l_like", "vrwkv6"}) all.push_back({name, device});
  }
  return all;
}

INSTANTIATE_TEST_SUITE_P(Models, GoldenClassifier, ::testing::ValuesIn(golden_models()), [](const auto& test) {
  return test.param.file + (test.param.device.is_cuda() ? "_cuda" : "_cpu");
});

/// Logits and all gradients of the golden model against the file's float64 values.
void check(const Safetensors& golden, VrwkvClassifier model, at::Device device, at::ScalarType dtype, double tolerance,
           double gradient_tolerance) {
  model->to(device, dtype);
  const at::Tensor logits = model(golden.tensors.at("input").to(device, dtype));
  EXPECT_TRUE(close("logits", golden.tensors.at("logits"), logits, tolerance));
  namespace F = torch::nn::functional;
  const at::Tensor loss = F::cross_entropy(logits, golden.tensors.at("target").to(device),
                                           F::CrossEntropyFuncOptions().label_smoothing(0.1));
  EXPECT_TRUE(close("loss", golden.tensors.at("loss"), loss, tolerance));
  loss.backward();
  size_t compared = 0;
  for (const auto& parameter : model->named_parameters()) {
    const auto expected = golden.tensors.find("grad." + parameter.key());
    ASSERT_NE(expected, golden.tensors.end()) << parameter.key();
    // The file's gradients are float64 values rounded to float32: rounding ours too allows a tolerance below 2^-24.
    const at::Tensor gradient = parameter.value().grad().to(at::kFloat);
    EXPECT_TRUE(close(parameter.key(), expected->second, gradient, gradient_tolerance, 1e-9));
    ++compared;
  }
  EXPECT_EQ(compared, model->parameters().size());
}

TEST_P(GoldenClassifier, MatchesLogitsAndGradients) {
  const Safetensors golden = read_golden(GetParam().file + ".safetensors");
  const ClassifierOptions options = options_of(golden);
  check(golden, load(golden, options), GetParam().device, at::kFloat, 1e-5, 1e-3);
  // vrwkv_l_like resizes its position embedding, as published in float32, where the GPU rounds otherwise than the CPU.
  const bool rounds = GetParam().device.is_cuda() && GetParam().file == "vrwkv_l_like";
  check(golden, load(golden, options), GetParam().device, at::kDouble, rounds ? 1e-7 : 1e-10, rounds ? 1e-6 : 1e-8);
}

TEST_P(GoldenClassifier, MatchesWithActivationCheckpointing) {
  const Safetensors golden = read_golden(GetParam().file + ".safetensors");
  ClassifierOptions options = options_of(golden);
  options.backbone.with_cp = true;
  check(golden, load(golden, options), GetParam().device, at::kFloat, 1e-5, 1e-3);
}

TEST_P(GoldenClassifier, MatchesThePublishedKernelWithItsFormula) {
  if (GetParam().file == "vrwkv6") GTEST_SKIP() << "VRWKV6 has one formula";
  const Safetensors golden = read_golden(GetParam().file + ".safetensors");
  const at::NoGradGuard no_grad;
  for (const auto formula : {WkvFormula::published, WkvFormula::paper}) {
    ClassifierOptions options = options_of(golden);
    options.backbone.wkv = formula;
    VrwkvClassifier model = load(golden, options);
    model->to(GetParam().device);
    const at::Tensor logits = model(golden.tensors.at("input").to(GetParam().device));
    const bool matches = close("logits", golden.tensors.at("logits_official"), logits, 1e-5);
    EXPECT_EQ(matches, formula == WkvFormula::published);
  }
}

TEST_P(GoldenClassifier, StaysNearUnderAutocast) {
  const Safetensors golden = read_golden(GetParam().file + ".safetensors");
  VrwkvClassifier model = load(golden, options_of(golden));
  model->to(GetParam().device);
  model->eval();
  const at::NoGradGuard no_grad;
  const AutocastGuard autocast(GetParam().device.type(), at::kBFloat16);
  const at::Tensor logits = model(golden.tensors.at("input").to(GetParam().device));
  EXPECT_TRUE(close("logits", golden.tensors.at("logits"), logits, 3e-2));
}

}  // namespace
}  // namespace vrwkv::testing

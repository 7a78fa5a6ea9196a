#include "vrwkv/checkpoint/state_dict.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/nn/modules/batchnorm.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>

#include "tests/support/assert_close.h"
#include "tests/support/golden.h"
#include "vrwkv/checkpoint/safetensors.h"
#include "vrwkv/checkpoint/weights.h"
#include "vrwkv/vrwkv_classifier.h"

namespace vrwkv::testing {
namespace {

namespace fs = std::filesystem;
using Tensors = std::map<std::string, torch::Tensor>;

VrwkvClassifier small_classifier(int64_t img_size = 32) {
  ClassifierOptions options;
  options.backbone.img_size = img_size;
  options.backbone.patch_size = 8;
  options.backbone.embed_dims = 8;
  options.backbone.depth = 2;
  options.num_classes = 5;
  return VrwkvClassifier(options);
}

Tensors random_weights(const torch::nn::Module& module) {
  Tensors tensors = state_dict(module);
  for (auto& [name, tensor] : tensors) tensor = at::randn_like(tensor);
  return tensors;
}

std::string message_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const std::runtime_error& error) {
    return error.what();
  }
  return "";
}

TEST(StateDictTest, HasThePublishedNamesAndShapes) {
  std::ifstream file(golden_path("state_keys.json"));
  const auto published = nlohmann::json::parse(file).at("vrwkv_T");
  const auto state = state_dict(*VrwkvClassifier(variant_options("tiny")));
  EXPECT_EQ(state.size(), published.size());
  for (const auto& [name, shape] : published.items()) {
    ASSERT_TRUE(state.contains(name)) << name;
    EXPECT_EQ(state.at(name).sizes(), shape.get<std::vector<int64_t>>()) << name;
  }
}

TEST(StateDictTest, HoldsParametersAndBuffersAndSharesTheirMemory) {
  torch::nn::BatchNorm1d module(3);
  const auto state = state_dict(*module);
  EXPECT_EQ(state.size(), 5U);
  EXPECT_FALSE(state.at("weight").requires_grad());
  module->running_mean.fill_(7);
  EXPECT_EQ(state.at("running_mean").sum().item<double>(), 21);
}

TEST(StateDictTest, LoadsAndConvertsTheDtype) {
  auto model = small_classifier();
  const Tensors weights = random_weights(*model);
  Tensors doubles = weights;
  for (auto& [name, tensor] : doubles) tensor = tensor.to(at::kDouble);
  const auto pointer = model->backbone->pos_embed.const_data_ptr();
  load_state_dict(*model, doubles);
  EXPECT_EQ(model->backbone->pos_embed.const_data_ptr(), pointer);
  EXPECT_TRUE(model->backbone->pos_embed.requires_grad());
  for (const auto& [name, tensor] : state_dict(*model)) {
    EXPECT_EQ(tensor.scalar_type(), at::kFloat) << name;
    EXPECT_TRUE(at::equal(tensor, weights.at(name))) << name;
  }
}

TEST(StateDictTest, ListsEveryProblemAtOnceAndChangesNothing) {
  auto model = small_classifier();
  Tensors weights = random_weights(*model);
  weights.erase("head.fc.bias");
  weights.erase("backbone.layers.1.ln2.weight");
  weights["head.fc.weight"] = at::ones({7, 8});
  weights["backbone.pos_embed"] = at::ones({1, 9, 8});
  weights["backbone.extra"] = at::ones({2, 2});
  Tensors before = state_dict(*model);
  for (auto& [name, tensor] : before) tensor = tensor.clone();
  const std::string error = message_of([&] { load_state_dict(*model, weights); });
  for (const char* line : {"\n  missing head.fc.bias [5]", "\n  missing backbone.layers.1.ln2.weight [8]",
                           "\n  head.fc.weight: the model has shape [5, 8], the file [7, 8]",
                           "\n  backbone.pos_embed: the model has shape [1, 16, 8], the file [1, 9, 8]",
                           "\n  unexpected backbone.extra [2, 2]"}) {
    EXPECT_NE(error.find(line), std::string::npos) << line << "\nis not in: " << error;
  }
  EXPECT_EQ(std::count(error.begin(), error.end(), '\n'), 5);
  for (const auto& [name, tensor] : state_dict(*model)) EXPECT_TRUE(at::equal(tensor, before.at(name))) << name;
}

/// Weight of a sample at distance x, Keys' cubic with a = -0.75.
double cubic(double x) {
  x = std::abs(x);
  if (x <= 1) return (1.25 * x - 2.25) * x * x + 1;
  return x < 2 ? ((-0.75 * x + 3.75) * x - 6) * x + 3 : 0;
}

/// [to, from]: bicubic interpolation along one side, pixel centres at half coordinates, edges repeated.
at::Tensor resize_matrix(int64_t from, int64_t to) {
  at::Tensor matrix = at::zeros({to, from}, at::kDouble);
  auto values = matrix.accessor<double, 2>();
  for (int64_t i = 0; i < to; ++i) {
    const double centre = (static_cast<double>(i) + 0.5) * static_cast<double>(from) / static_cast<double>(to) - 0.5;
    const auto first = static_cast<int64_t>(std::floor(centre)) - 1;
    for (int64_t j = first; j < first + 4; ++j) {
      values[i][std::clamp<int64_t>(j, 0, from - 1)] += cubic(centre - static_cast<double>(j));
    }
  }
  return matrix;
}

TEST(StateDictTest, ResizesThePositionEmbeddingOnRequest) {
  for (const int64_t side : {48, 24, 8}) {  // Grids of 6, 3 and 1; the file's is 4.
    auto model = small_classifier(side);
    Tensors weights = random_weights(*small_classifier(32));
    EXPECT_NE(message_of([&] { load_state_dict(*model, weights); }).find("backbone.pos_embed"), std::string::npos);
    load_state_dict(*model, weights, {.resize_pos_embed = true});
    const at::Tensor matrix = resize_matrix(4, side / 8);
    const at::Tensor grid = weights.at("backbone.pos_embed").to(at::kDouble).reshape({4, 4, 8});
    const at::Tensor expected = at::einsum("ih,jw,hwc->ijc", {matrix, matrix, grid}).reshape({1, -1, 8});
    EXPECT_TRUE(close("pos_embed", expected, model->backbone->pos_embed, 1e-6)) << side;
    EXPECT_TRUE(at::equal(model->head->named_parameters()["fc.weight"], weights.at("head.fc.weight")));
  }
}

TEST(StateDictTest, ResizesNoPositionEmbeddingOfAnotherKind) {
  auto model = small_classifier(48);
  Tensors weights = random_weights(*small_classifier(32));
  for (const auto& shape : std::vector<std::vector<int64_t>>{{1, 15, 8}, {1, 16, 4}, {16, 8}, {2, 16, 8}, {1, 0, 8}}) {
    weights["backbone.pos_embed"] = at::ones(shape);
    const std::string error = message_of([&] { load_state_dict(*model, weights, {.resize_pos_embed = true}); });
    EXPECT_NE(error.find("the model has shape [1, 36, 8], the file "), std::string::npos) << error;
  }
}

class WeightsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string name = ::testing::UnitTest::GetInstance()->current_test_info()->name();
    path_ = fs::temp_directory_path() / ("vrwkv-weights-" + name + "-" + std::to_string(::getpid()));
  }
  void TearDown() override { fs::remove(path_); }
  void write(const std::string& bytes) { std::ofstream(path_, std::ios::binary) << bytes; }

  fs::path path_;
  const at::Tensor one_ = at::ones({1});
};

TEST_F(WeightsTest, ReadsPublishedNames) {
  write_safetensors(path_, {{"backbone.pos_embed", one_}, {"head.fc.bias", one_}});
  const ModelWeights weights = read_model_weights(path_);
  EXPECT_EQ(weights.tensors.size(), 2U);
  EXPECT_TRUE(weights.tensors.contains("backbone.pos_embed"));
  EXPECT_TRUE(weights.tensors.contains("head.fc.bias"));
  EXPECT_TRUE(weights.classes.empty());
}

TEST_F(WeightsTest, ReadsNamesWithoutBackbone) {
  write_safetensors(path_, {{"patch_embed.projection.weight", one_}, {"pos_embed", one_}, {"head.fc.bias", one_}});
  const auto tensors = read_model_weights(path_).tensors;
  EXPECT_EQ(tensors.size(), 3U);
  for (const char* name : {"backbone.patch_embed.projection.weight", "backbone.pos_embed", "head.fc.bias"}) {
    EXPECT_TRUE(tensors.contains(name)) << name;
  }
}

TEST_F(WeightsTest, ReadsTheModelOfATrainingCheckpointAndItsClasses) {
  const std::vector<std::string> classes{"n01", "\"quoted\"", "caf\xC3\xA9"};
  write_safetensors(path_, {{"model.head.fc.bias", one_}, {"optimizer.exp_avg.head.fc.bias", one_}},
                    {{kClassesKey, classes_to_json(classes)}});
  const ModelWeights weights = read_model_weights(path_);
  EXPECT_EQ(weights.tensors.size(), 1U);
  EXPECT_TRUE(weights.tensors.contains("head.fc.bias"));
  EXPECT_EQ(weights.classes, classes);
}

TEST_F(WeightsTest, TakesOffWhatAWrapperLeaves) {
  write_safetensors(path_, {{"module.backbone.pos_embed", one_}, {"module.head.fc.bias", one_}});
  EXPECT_TRUE(read_model_weights(path_).tensors.contains("backbone.pos_embed"));
}

TEST_F(WeightsTest, ReadsAveragedWeightsWhenAskedTo) {
  write_safetensors(path_, {{"model.head.fc.bias", one_}, {"ema.head.fc.bias", 2 * one_}});
  EXPECT_EQ(read_model_weights(path_).tensors.at("head.fc.bias").item<float>(), 1);
  EXPECT_EQ(read_model_weights(path_, WeightSet::ema).tensors.at("head.fc.bias").item<float>(), 2);
  write_safetensors(path_, {{"model.head.fc.bias", one_}});
  const std::string error = message_of([&] { read_model_weights(path_, WeightSet::ema); });
  EXPECT_NE(error.find("holds no averaged weights"), std::string::npos) << error;
}

TEST_F(WeightsTest, WritesClassNamesThatAreNotUtf8) {
  EXPECT_EQ(classes_to_json({"caf\xE9"}), "[\"caf\xEF\xBF\xBD\"]");
}

TEST_F(WeightsTest, RefusesClassesThatAreNoList) {
  write_safetensors(path_, {{"head.fc.bias", one_}}, {{kClassesKey, "cat, dog"}});
  const std::string error = message_of([&] { read_model_weights(path_); });
  EXPECT_NE(error.find("must be a JSON list of names, got cat, dog"), std::string::npos) << error;
}

TEST_F(WeightsTest, RefusesOtherFormats) {
  write("GIF89a and so on");
  EXPECT_NE(message_of([&] { read_model_weights(path_); }).find("not a safetensors file"), std::string::npos);
}

TEST_F(WeightsTest, ReadsAFileWhoseHeaderLengthLooksLikeAMagic) {
  // 0x0280 and 0x4B50: as bytes, the start of a pickle and of a zip archive.
  for (const size_t length : {0x0280, 0x4B50}) {
    const std::string entry = R"({"head.fc.bias":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})";
    const std::string low_high{static_cast<char>(length & 0xFF), static_cast<char>(length >> 8)};
    write(low_high + std::string(6, '\0') + entry + std::string(length - entry.size(), ' ') + "x");
    EXPECT_EQ(read_model_weights(path_).tensors.size(), 1U) << length;
  }
}

}  // namespace
}  // namespace vrwkv::testing

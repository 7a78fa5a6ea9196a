#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>

#include "common/errors.h"
#include "eval/load_classifier.h"
#include "eval/predict_flags.h"
#include "eval/predict_images.h"
#include "eval/predict_tensor.h"
#include "tests/eval/memory_dataset.h"
#include "vrwkv/checkpoint/safetensors.h"
#include "vrwkv/checkpoint/state_dict.h"

namespace vrwkv::eval {
namespace {

namespace fs = std::filesystem;
using Strings = std::vector<std::string>;
const Precision kFloat32{at::kCPU, config::Dtype::float32};

class Predict : public ::testing::Test {
 protected:
  void SetUp() override {
    at::manual_seed(11);
    std::string pattern = (fs::temp_directory_path() / "vrwkv_predict_XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    config_ = small_config(7);
    model_ = small_classifier(config_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  std::string write_image(const std::string& name, std::vector<std::uint8_t> bytes = {}) {
    if (bytes.empty()) bytes = random_samples(1, 1)[0].bytes;
    fs::create_directories((folder_ / name).parent_path());
    std::ofstream(folder_ / name, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()), std::ssize(bytes));
    return (folder_ / name).string();
  }

  std::string write_tensors(const std::map<std::string, at::Tensor>& tensors) {
    write_safetensors(folder_ / "in.safetensors", tensors);
    return (folder_ / "in.safetensors").string();
  }

  template <class Error, class Call>
  std::string message_of(const Call& call) {
    try {
      call();
      return "no error";
    } catch (const Error& error) {
      return error.what();
    }
  }

  fs::path folder_;
  config::RunConfig config_;
  VrwkvClassifier model_{nullptr};
};

TEST_F(Predict, ProbabilitiesBelongToTheInputsThatTheNetworkSaw) {
  const Strings paths{write_image("a.png"), write_image("b.png"), write_image("c.png")};
  for (const int64_t batch_size : {1, 2, 16}) {
    config_.eval.batch_size = batch_size;
    std::vector<at::Tensor> inputs;
    std::vector<ImagePrediction> predictions;
    PredictionSinks sinks;
    sinks.predicted = [&](const ImagePrediction& prediction) { predictions.push_back(prediction); };
    sinks.network_input = [&](const std::string&, const at::Tensor& input) { inputs.push_back(input); };
    predict_images(model_, paths, config_, kFloat32, 5, sinks);
    ASSERT_EQ(predictions.size(), 3u);
    const at::Tensor expected = predict_logits(model_, at::stack(inputs), kFloat32).to(at::kDouble).softmax(1);
    for (std::size_t i = 0; i < 3; ++i) {
      EXPECT_EQ(predictions[i].path, paths[i]);
      ASSERT_EQ(predictions[i].top.size(), 5u);
      double before = 1;
      for (const auto& [label, probability] : predictions[i].top) {
        EXPECT_NEAR(probability, expected[static_cast<int64_t>(i)][label].item<double>(), 1e-6);
        EXPECT_LE(probability, before);
        before = probability;
      }
      EXPECT_EQ(predictions[i].top[0].label, expected[static_cast<int64_t>(i)].argmax().item<int64_t>());
    }
  }
}

TEST_F(Predict, TopKIsAtMostTheNumberOfClasses) {
  PredictionSinks sinks;
  sinks.predicted = [&](const ImagePrediction& prediction) {
    EXPECT_EQ(prediction.top.size(), 7u);
    double sum = 0;
    for (const auto& [label, probability] : prediction.top) sum += probability;
    EXPECT_NEAR(sum, 1.0, 1e-12);
  };
  predict_images(model_, {write_image("a.png")}, config_, kFloat32, 100, sinks);
}

TEST_F(Predict, UnreadableImagesAreToldAndTheOthersPredicted) {
  const Strings paths{(folder_ / "missing.png").string(), write_image("a.png"), folder_.string(),
                      write_image("empty.png", {0}), write_image("b.png")};
  Strings predicted, unreadable;
  PredictionSinks sinks;
  sinks.predicted = [&](const ImagePrediction& prediction) { predicted.push_back(prediction.path); };
  sinks.unreadable = [&](const std::string& path, const std::string& message) {
    unreadable.push_back(path);
    EXPECT_EQ(message.find(path + ": "), 0u) << message;
    EXPECT_EQ(message.find(path, 1), std::string::npos) << message;
  };
  predict_images(model_, paths, config_, kFloat32, 5, sinks);
  EXPECT_EQ(predicted, (Strings{paths[1], paths[4]}));
  EXPECT_EQ(unreadable, (Strings{paths[0], paths[2], paths[3]}));
}

TEST_F(Predict, InputsAreKeyedByBaseNameUnlessItIsShared) {
  const auto keys = input_keys({"a/x.png", "b/x.png", "c/y.png", "c/y.png", "z.png"});
  EXPECT_EQ(keys.at("a/x.png"), "a/x.png");
  EXPECT_EQ(keys.at("b/x.png"), "b/x.png");
  EXPECT_EQ(keys.at("c/y.png"), "y.png");
  EXPECT_EQ(keys.at("z.png"), "z.png");
}

TEST_F(Predict, AnyMultipleOfThePatchIsTaken) {
  const std::string path = write_tensors({{"input", at::randn({2, 3, 12, 20})}});
  const at::Tensor input = read_input(path, config_.model.backbone);
  EXPECT_EQ(predict_logits(model_, input, kFloat32).scalar_type(), at::kFloat);
  model_->to(at::kDouble);
  const at::Tensor logits = predict_logits(model_, input, {at::kCPU, config::Dtype::float64});
  EXPECT_EQ(logits.scalar_type(), at::kDouble);
  EXPECT_EQ(logits.sizes(), (at::IntArrayRef{2, 7}));
}

TEST_F(Predict, OtherInputTensorsAreRefused) {
  const auto error = [&](const std::map<std::string, at::Tensor>& tensors) {
    const std::string path = write_tensors(tensors);
    const std::string message = message_of<UsageError>([&] { read_input(path, config_.model.backbone); });
    EXPECT_EQ(message.find(path), 0u) << message;
    return message;
  };
  EXPECT_NE(error({{"image", at::zeros({1, 3, 8, 8})}}).find("named 'input'"), std::string::npos);
  EXPECT_NE(error({{"input", at::zeros({3, 8, 8})}}).find("[3, 8, 8]"), std::string::npos);
  EXPECT_NE(error({{"input", at::zeros({1, 1, 8, 8})}}).find("[1, 1, 8, 8]"), std::string::npos);
  EXPECT_NE(error({{"input", at::zeros({1, 3, 8, 8}, at::kDouble)}}).find("Double"), std::string::npos);
  EXPECT_NE(error({{"input", at::zeros({1, 3, 8, 10})}}).find("multiples of model.patch_size (4)"), std::string::npos);
  EXPECT_NE(error({{"input", at::zeros({1, 3, 0, 8})}}).find("multiples"), std::string::npos);
  EXPECT_NE(message_of<UsageError>([&] { read_input("/no/such/file", config_.model.backbone); }).find("does not exist"),
            std::string::npos);
}

TEST_F(Predict, LoadedWeightsGiveTheSameLogits) {
  const fs::path path = folder_ / "weights.safetensors";
  write_safetensors(path, state_dict(*model_));
  const ModelWeights weights = read_checkpoint(path);
  const at::Tensor input = at::randn({3, 3, 8, 8});
  const at::Tensor expected = predict_logits(model_, input, kFloat32);
  VrwkvClassifier loaded = load_classifier(config_.model, weights, path, kFloat32);
  EXPECT_TRUE(predict_logits(loaded, input, kFloat32).equal(expected));
  EXPECT_FALSE(loaded->is_training());
}

TEST_F(Predict, WeightsOfAnotherShapeAreListed) {
  auto state = state_dict(*model_);
  state["backbone.pos_embed"] = at::zeros({1, 9, 16});
  state["extra"] = at::zeros({1});
  state.erase("backbone.ln1.weight");
  const std::string message =
      message_of<std::runtime_error>([&] { load_classifier(config_.model, {state, {}}, "w.safetensors", kFloat32); });
  EXPECT_EQ(message.find("w.safetensors: "), 0u) << message;
  for (const char* name : {"backbone.pos_embed", "extra", "backbone.ln1.weight"}) {
    EXPECT_NE(message.find(name), std::string::npos) << message;
  }
}

TEST_F(Predict, MissingCheckpointIsAUsageError) {
  EXPECT_THROW(read_checkpoint(folder_ / "none.safetensors"), UsageError);
  EXPECT_THROW(read_checkpoint(folder_), UsageError);
}

PredictFlags flags_of(const Strings& arguments) {
  PredictFlags flags;
  flags.arguments = arguments;
  settle(flags);
  return flags;
}

TEST_F(Predict, ArgumentsAreOverridesOrImages) {
  const std::string odd = write_image("a.b=c.png");
  const PredictFlags flags =
      flags_of({"x=1.png", "data.workers=2", odd, "dir/a.b=c", "run.device=cpu", "a.jpg", ".x=1"});
  EXPECT_EQ(flags.overrides, (Strings{"data.workers=2", "run.device=cpu"}));
  EXPECT_EQ(flags.images, (Strings{"x=1.png", odd, "dir/a.b=c", "a.jpg", ".x=1"}));
  const fs::path before = fs::current_path();
  fs::current_path(folder_);
  EXPECT_EQ(flags_of({"a.b=c.png"}).images, Strings{"a.b=c.png"});
  fs::current_path(before);
}

TEST_F(Predict, CombinationsThatMeanNothingAreRefused) {
  EXPECT_THROW(flags_of({}), UsageError);
  EXPECT_THROW(flags_of({"data.workers=2"}), UsageError);
  const auto with_input = [](const Strings& arguments) {
    PredictFlags flags;
    flags.input = "in.safetensors";
    flags.output = "out.safetensors";
    flags.arguments = arguments;
    settle(flags);
  };
  EXPECT_THROW(with_input({"a.png"}), UsageError);
  EXPECT_NO_THROW(with_input({"data.workers=2"}));
  EXPECT_NO_THROW(with_input({}));
}

}  // namespace
}  // namespace vrwkv::eval

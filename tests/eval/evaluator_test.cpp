#include "eval/evaluator.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <stdexcept>

#include "data/transforms.h"
#include "tests/eval/memory_dataset.h"
#include "tests/support/devices.h"

namespace vrwkv::eval {
namespace {

constexpr int64_t kClasses = 6;

/// What evaluate() must find, image by image.
Accuracy evaluate_one_by_one(VrwkvClassifier model, const MemoryDataset& dataset, const config::RunConfig& config) {
  model->eval();
  const at::NoGradGuard no_grad;
  Accuracy expected;
  expected.classes.resize(static_cast<std::size_t>(model->options().num_classes));
  double loss = 0;
  for (int64_t i = 0; i < dataset.size(); ++i) {
    const data::EncodedSample sample = dataset.get(i);
    const at::Tensor view = data::eval_view(data::decode_image(sample.bytes), config.data.eval_transform);
    const at::Tensor image = data::normalize(view.unsqueeze(0), config.data.normalize, at::kFloat);
    const at::Tensor logits = model->forward(image)[0].to(at::kDouble);
    const at::Tensor order = logits.argsort(/*dim=*/0, /*descending=*/true);
    AccuracyCounts& of_class = expected.classes.at(static_cast<std::size_t>(sample.label));
    ++of_class.images;
    for (int64_t place = 0; place < 5; ++place) {
      if (order[place].item<int64_t>() != sample.label) continue;
      of_class.correct1 += place == 0 ? 1 : 0;
      ++of_class.correct5;
    }
    loss -= logits.log_softmax(0)[sample.label].item<double>();
  }
  expected.loss = loss / static_cast<double>(dataset.size());
  return expected;
}

class Evaluate : public ::testing::TestWithParam<at::Device> {
 protected:
  void SetUp() override {
    at::manual_seed(5);
    dataset_ = std::make_shared<const MemoryDataset>(random_samples(23, kClasses), std::vector<std::string>(kClasses));
    config_ = small_config(kClasses);
    model_ = small_classifier(config_);
  }

  Accuracy run(config::Dtype dtype = config::Dtype::float32) {
    const Precision precision{GetParam(), dtype};
    const auto loader = make_eval_loader(config_, dataset_, precision.device);
    model_->to(precision.device, weights_dtype(dtype));
    return evaluate(model_, *loader, config_.data.normalize, precision);
  }

  std::shared_ptr<const MemoryDataset> dataset_;
  config::RunConfig config_;
  VrwkvClassifier model_{nullptr};
};

INSTANTIATE_TEST_SUITE_P(Devices, Evaluate, ::testing::ValuesIn(testing::devices()),
                         [](const auto& instance) { return instance.param.is_cuda() ? "cuda" : "cpu"; });

TEST_P(Evaluate, CountsAreThoseOfSingleImagesWhateverTheBatch) {
  const Accuracy expected = evaluate_one_by_one(model_, *dataset_, config_);
  for (const int64_t batch_size : {1, 4, 23, 256}) {
    config_.eval.batch_size = batch_size;
    const Accuracy accuracy = run();
    EXPECT_EQ(accuracy.images, 23);
    EXPECT_EQ(accuracy.classes, expected.classes) << "batches of " << batch_size;
    EXPECT_NEAR(accuracy.loss, expected.loss, 1e-4);
  }
  EXPECT_GT(run().correct5, run().correct1);  // The example is one in which the two differ.
}

TEST_P(Evaluate, PrecisionsAgree) {
  const Accuracy in_float32 = run();
  EXPECT_NEAR(run(config::Dtype::bfloat16).loss, in_float32.loss, 0.05 * in_float32.loss);
  EXPECT_NE(run(config::Dtype::bfloat16).loss, in_float32.loss);
  EXPECT_EQ(model_->parameters().front().scalar_type(), at::kFloat);
  const Accuracy in_float64 = run(config::Dtype::float64);
  EXPECT_EQ(in_float64.classes, in_float32.classes);
  EXPECT_NEAR(in_float64.loss, in_float32.loss, 1e-4);
}

TEST_P(Evaluate, RestoresTrainingModeGradModeAndAutocast) {
  model_->train();
  run(config::Dtype::bfloat16);
  EXPECT_TRUE(model_->is_training());
  EXPECT_TRUE(model_->backbone->is_training());
  EXPECT_TRUE(at::GradMode::is_enabled());
  EXPECT_FALSE(at::autocast::is_autocast_enabled(GetParam().type()));
  model_->eval();
  run();
  EXPECT_FALSE(model_->is_training());
  for (const at::Tensor& parameter : model_->parameters()) EXPECT_FALSE(parameter.grad().defined());
}

TEST_P(Evaluate, ACorruptImageIsAnErrorThatNamesIt) {
  auto samples = random_samples(9, kClasses);
  samples[7].bytes.resize(40);
  dataset_ = std::make_shared<const MemoryDataset>(samples, std::vector<std::string>(kClasses));
  model_->train();
  try {
    run(config::Dtype::bfloat16);
    FAIL() << "no error";
  } catch (const data::ImageError& error) {
    EXPECT_NE(std::string(error.what()).find("image-7"), std::string::npos) << error.what();
  }
  EXPECT_TRUE(model_->is_training());
  EXPECT_FALSE(at::autocast::is_autocast_enabled(GetParam().type()));
}

TEST_P(Evaluate, ALabelBeyondTheHeadIsAnErrorThatNamesTheImage) {
  auto samples = random_samples(3, kClasses);
  samples[1].label = kClasses;
  dataset_ = std::make_shared<const MemoryDataset>(samples, std::vector<std::string>(kClasses + 1));
  try {
    run();
    FAIL() << "no error";
  } catch (const std::runtime_error& error) {
    EXPECT_NE(std::string(error.what()).find("image-1: its label 6"), std::string::npos) << error.what();
  }
}

TEST(PrecisionGuard, NestsAndRestores) {
  const auto enabled = [] { return at::autocast::is_autocast_enabled(at::kCPU); };
  const at::Tensor a = at::ones({2, 2});
  {
    const PrecisionGuard outer({at::kCPU, config::Dtype::bfloat16});
    EXPECT_EQ(at::matmul(a, a).scalar_type(), at::kBFloat16);
    {
      const PrecisionGuard inner({at::kCPU, config::Dtype::bfloat16});
      EXPECT_TRUE(enabled());
    }
    EXPECT_TRUE(enabled());
    const PrecisionGuard none({at::kCPU, config::Dtype::float32});
    EXPECT_TRUE(enabled());
  }
  EXPECT_FALSE(enabled());
  EXPECT_EQ(at::matmul(a, a).scalar_type(), at::kFloat);
}

}  // namespace
}  // namespace vrwkv::eval

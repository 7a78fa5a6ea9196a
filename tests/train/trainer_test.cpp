#include "train/trainer.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/nn/functional/loss.h>
#include <torch/nn/modules/linear.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "common/errors.h"

namespace vrwkv::testing {
namespace {

namespace fs = std::filesystem;

/// A task without files: regression of random points through a linear layer with dropout. It counts what the trainer
/// asks of it and can raise SIGINT at a given batch.
class ToyTask : public train::Task {
 public:
  torch::nn::Module& model() override { return *model_; }
  int64_t batches_per_epoch() const override { return 10; }
  void start_epoch(int64_t epoch, int64_t first_batch) override {
    epoch_ = epoch;
    batch_ = first_batch;
  }
  void fetch(int64_t) override {}
  torch::Tensor loss(int64_t) override {
    auto generator = at::make_generator<at::CPUGeneratorImpl>(static_cast<uint64_t>(epoch_ * 1000 + batch_));
    const at::Tensor x = at::randn({4, 3}, generator, at::TensorOptions(at::kDouble));
    ++losses;
    if (losses == interrupt_after) std::raise(SIGINT);
    ++batch_;
    const at::Tensor loss = at::dropout(model_(x) - 1, 0.5, model_->is_training()).square().mean();
    return losses == nan_at ? loss * std::numeric_limits<double>::quiet_NaN() : loss;
  }
  train::Evaluation evaluate() override {
    ++evaluations;
    return {{{"top1", scores.at(static_cast<size_t>(evaluations - 1))}},
            scores.at(static_cast<size_t>(evaluations - 1)),
            "toy"};
  }
  double data_wait_seconds() const override { return 0; }
  std::map<std::string, std::string> metadata() const override { return {{"classes", "[\"a\"]"}}; }

  int losses = 0, evaluations = 0, interrupt_after = -1, nan_at = -1;
  std::vector<double> scores{10, 30, 20, 25};

 private:
  struct Model : torch::nn::Module {
    torch::nn::Linear linear{3, 2};
    Model() {
      register_module("linear", linear);
      to(at::kDouble);
      const torch::NoGradGuard no_grad;
      for (auto& parameter : parameters()) parameter.fill_(0.25);
    }
    torch::Tensor operator()(const torch::Tensor& x) { return linear(x); }
  };
  struct Holder {
    std::shared_ptr<Model> impl = std::make_shared<Model>();
    Model& operator*() const { return *impl; }
    Model* operator->() const { return impl.get(); }
    torch::Tensor operator()(const torch::Tensor& x) const { return (*impl)(x); }
  } model_;
  int64_t epoch_ = 0, batch_ = 0;
};

class TrainerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(::testing::TempDir()) / ("trainer_" + std::to_string(::getpid()) + "_" +
                                                ::testing::UnitTest::GetInstance()->current_test_info()->name());
    fs::remove_all(folder_);
    config_.train.epochs = 4;
    config_.train.batch_size = 4;
    config_.train.log_every = 1;
    config_.train.keep_checkpoints = 2;
    config_.train.optimizer.lr = 0.05;
  }
  void TearDown() override { fs::remove_all(folder_); }

  config::RunConfig config(const char* name) {
    config_.run.output_dir = (folder_ / name).string();
    return config_;
  }

  /// Step, loss, lr and gradient norm of every logged training step.
  static std::vector<nlohmann::json> losses(const config::RunConfig& config) {
    std::ifstream file(fs::path(config.run.output_dir) / "metrics.jsonl");
    std::vector<nlohmann::json> all;
    for (std::string line; std::getline(file, line);) {
      const auto json = nlohmann::json::parse(line);
      if (json["kind"] == "train") all.push_back({json["step"], json["loss"], json["lr"], json["grad_norm"]});
    }
    return all;
  }

  fs::path folder_;
  config::RunConfig config_;
};

TEST_F(TrainerTest, ResumesAfterAnInterruptionWithIdenticalLosses) {
  const auto whole = config("whole");
  ToyTask undisturbed;
  train::Trainer(whole, undisturbed, std::nullopt).run();
  EXPECT_EQ(undisturbed.losses, 40);
  EXPECT_EQ(losses(whole).size(), 40U);

  const auto broken = config("broken");
  ToyTask first;
  first.interrupt_after = 17;
  train::Trainer(broken, first, std::nullopt).run();
  EXPECT_EQ(first.losses, 17);
  ToyTask second;
  second.evaluations = first.evaluations;
  train::Trainer(broken, second, "auto").run();
  EXPECT_EQ(second.losses, 23);
  EXPECT_EQ(losses(whole), losses(broken));
}

TEST_F(TrainerTest, KeepsLastBestAndTheNewestEpochs) {
  const auto run = config("run");
  ToyTask task;
  train::Trainer(run, task, std::nullopt).run();
  const fs::path folder = fs::path(run.run.output_dir) / "checkpoints";
  const auto step = [&](const char* name) {
    return nlohmann::json::parse(train::read_checkpoint(folder / name).metadata.at("train_state"))
        .at("step")
        .get<int64_t>();
  };
  EXPECT_EQ(step("last.safetensors"), 40);
  EXPECT_EQ(step("best.safetensors"), 20);  // Scores 10, 30, 20, 25.
  EXPECT_EQ(step("epoch_0003.safetensors"), 30);
  EXPECT_EQ(step("epoch_0004.safetensors"), 40);
  EXPECT_FALSE(fs::exists(folder / "epoch_0002.safetensors"));
  EXPECT_EQ(train::read_checkpoint(folder / "best.safetensors").metadata.at("classes"), "[\"a\"]");
}

TEST_F(TrainerTest, EvaluatesAndSavesAtTheConfiguredEpochs) {
  config_.train.eval_every = 3;
  config_.train.checkpoint_every = 2;
  config_.train.keep_checkpoints = 9;
  const auto run = config("run");
  ToyTask task;
  task.scores = {1, 0};
  train::Trainer(run, task, std::nullopt).run();
  EXPECT_EQ(task.evaluations, 2);  // Epoch 3, and the last.
  const fs::path folder = fs::path(run.run.output_dir) / "checkpoints";
  EXPECT_FALSE(fs::exists(folder / "epoch_0001.safetensors"));
  for (const char* name : {"epoch_0002.safetensors", "epoch_0003.safetensors", "epoch_0004.safetensors"}) {
    EXPECT_TRUE(fs::exists(folder / name)) << name;  // Epoch 3 is the best and is saved for that.
  }
}

TEST_F(TrainerTest, AccumulatesGradientsOverPartsOfABatch) {
  config_.train.grad_accumulation = 5;
  config_.train.batch_size = 20;
  const auto run = config("run");
  ToyTask task;
  train::Trainer(run, task, std::nullopt).run();
  EXPECT_EQ(task.losses, 40);
  EXPECT_EQ(losses(run).size(), 8U);  // Two steps an epoch.
}

TEST_F(TrainerTest, RefusesToOverwriteARunOrToResumeAnother) {
  const auto run = config("run");
  ToyTask task, again;
  train::Trainer(run, task, std::nullopt).run();
  EXPECT_THROW(train::Trainer(run, again, std::nullopt), UsageError);
  EXPECT_THROW(train::Trainer(run, again, (folder_ / "nothing.safetensors").string()), UsageError);
  auto other = run;
  other.train.grad_accumulation = 2;
  other.train.batch_size = 8;
  EXPECT_THROW(train::Trainer(other, again, "auto"), UsageError);
}

TEST_F(TrainerTest, StopsAtALossThatIsNotFinite) {
  const auto run = config("run");
  ToyTask task;
  task.nan_at = 12;
  try {
    train::Trainer(run, task, std::nullopt).run();
    FAIL() << "went on with a NaN";
  } catch (const std::runtime_error& error) {
    EXPECT_NE(std::string(error.what()).find("the loss is nan at step 12"), std::string::npos) << error.what();
  }
  // The last checkpoint is from before: the run can go on.
  EXPECT_EQ(losses(run).size(), 11U);
}

}  // namespace
}  // namespace vrwkv::testing

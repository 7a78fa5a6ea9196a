#pragma once

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/nn/modules/linear.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>

#include "train/task.h"
#include "train/trainer.h"

namespace vrwkv::testing {

/// A task without files: regression of random points through a linear layer with dropout. It counts what the trainer
/// asks of it and can raise SIGINT at a given batch.
class ToyTask : public train::Task {
 public:
  explicit ToyTask(at::ScalarType dtype = at::kDouble) : dtype_(dtype) {
    model_->to(dtype);
    const torch::NoGradGuard no_grad;
    for (auto& parameter : model_->parameters()) parameter.fill_(0.25);
  }

  torch::nn::Module& model() override { return *model_; }
  int64_t batches_per_epoch() const override { return 10; }
  void start_epoch(int64_t epoch, int64_t first_batch) override {
    epoch_ = epoch;
    batch_ = first_batch;
  }
  void fetch(int64_t) override {}
  torch::Tensor loss(int64_t) override {
    auto generator = at::make_generator<at::CPUGeneratorImpl>(static_cast<uint64_t>(epoch_ * 1000 + batch_));
    const at::Tensor x = at::randn({4, 3}, generator, at::TensorOptions(dtype_));
    ++losses;
    if (losses == interrupt_after) std::raise(SIGINT);
    ++batch_;
    const at::Tensor loss = at::dropout(model_(x) - 1, 0.5, model_->is_training()).square().mean();
    return losses == nan_at ? loss * std::numeric_limits<double>::quiet_NaN() : loss;
  }
  train::Evaluation evaluate() override {
    const double score =
        scores.empty() ? model_->weight[0][0].item<double>() : scores.at(static_cast<size_t>(evaluations));
    ++evaluations;
    return {{{"top1", score}}, score, "toy"};
  }
  double data_wait_seconds() const override { return 0; }
  std::map<std::string, std::string> metadata() const override { return {{"classes", "[\"a\"]"}}; }

  int losses = 0, evaluations = 0, interrupt_after = -1, nan_at = -1;
  std::vector<double> scores{10, 30, 20, 25};  ///< Of the evaluations; empty: the first weight is the score.

 private:
  torch::nn::Linear model_{3, 2};
  at::ScalarType dtype_;
  int64_t epoch_ = 0, batch_ = 0;
};

/// Short runs of toy tasks, each in a folder of its own.
class ToyRun : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::path(::testing::TempDir()) / ("toy_run_" + std::to_string(::getpid()) + "_" +
                                                ::testing::UnitTest::GetInstance()->current_test_info()->name());
    std::filesystem::remove_all(folder_);
    config_.train.epochs = 4;
    config_.train.batch_size = 4;
    config_.train.log_every = 1;
    config_.train.keep_checkpoints = 2;
    config_.train.optimizer.lr = 0.05;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  config::RunConfig config(const char* name) {
    config_.run.output_dir = (folder_ / name).string();
    return config_;
  }

  static std::vector<nlohmann::json> metrics(const config::RunConfig& config, const std::string& kind) {
    std::ifstream file(std::filesystem::path(config.run.output_dir) / "metrics.jsonl");
    std::vector<nlohmann::json> all;
    for (std::string line; std::getline(file, line);) {
      const auto json = nlohmann::json::parse(line);
      if (json["kind"] == kind) all.push_back(json);
    }
    return all;
  }

  /// Step, loss, lr and gradient norm of every logged training step.
  static std::vector<nlohmann::json> losses(const config::RunConfig& config) {
    std::vector<nlohmann::json> all;
    for (const auto& json : metrics(config, "train")) {
      all.push_back({json["step"], json["loss"], json["lr"], json["grad_norm"]});
    }
    return all;
  }

  /// The tensors of a run's newest checkpoint.
  static std::map<std::string, at::Tensor> last(const config::RunConfig& config) {
    return train::read_checkpoint(std::filesystem::path(config.run.output_dir) / "checkpoints" / "last.safetensors")
        .tensors;
  }

  std::filesystem::path folder_;
  config::RunConfig config_;
};

}  // namespace vrwkv::testing

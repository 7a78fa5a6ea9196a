#include "train/trainer.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "common/errors.h"
#include "tests/train/toy_run.h"

namespace vrwkv::testing {
namespace {

namespace fs = std::filesystem;

class TrainerTest : public ToyRun {};

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

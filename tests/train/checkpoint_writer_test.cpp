#include "train/checkpoint_writer.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

namespace vrwkv::testing {
namespace {

namespace fs = std::filesystem;
using train::Checkpoint;
using train::CheckpointWriter;
using train::read_checkpoint;
using As = CheckpointWriter::As;

class CheckpointWriterTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string name = ::testing::UnitTest::GetInstance()->current_test_info()->name();
    run_ = fs::temp_directory_path() / ("vrwkv-writer-" + name + "-" + std::to_string(::getpid()));
    fs::remove_all(run_);
    store_.emplace(run_, 2);
    store_->open();
    weights_ = at::zeros({300, 7}, at::kFloat);
  }
  void TearDown() override { fs::remove_all(run_); }

  /// All weights are `value`; not contiguous, as a model's may be.
  Checkpoint checkpoint(double value) {
    weights_.fill_(value);
    return {{{"w", weights_.t()}, {"step", at::full({}, value, at::kFloat)}}, {{"config", "c"}}};
  }
  /// The value in a file, all of whose numbers are the same.
  static double value_in(const fs::path& path) {
    const Checkpoint found = read_checkpoint(path);
    const double value = found.tensors.at("step").item<double>();
    EXPECT_TRUE(at::equal(found.tensors.at("w"), at::full({7, 300}, value, at::kFloat)));
    return value;
  }
  fs::path file(const std::string& name) const { return run_ / "checkpoints" / (name + ".safetensors"); }

  fs::path run_;
  std::optional<train::CheckpointStore> store_;
  at::Tensor weights_;
};

TEST_F(CheckpointWriterTest, WritesWhatTheStoreWouldWrite) {
  CheckpointWriter writer(*store_);
  EXPECT_EQ(writer.summary(), "");
  writer.write(checkpoint(1), As::best, 1);
  writer.write(checkpoint(2), As::last, 2);
  writer.write(checkpoint(3), As::last);
  weights_.fill_(-1);
  writer.finish();
  EXPECT_EQ(value_in(file("best")), 1);
  EXPECT_EQ(value_in(file("epoch_0001")), 1);
  EXPECT_EQ(value_in(file("epoch_0002")), 2);
  EXPECT_EQ(value_in(file("last")), 3);
  EXPECT_EQ(writer.summary().find("3 checkpoints written in the background in "), 0U) << writer.summary();
}

TEST_F(CheckpointWriterTest, TheDestructorWaits) {
  { CheckpointWriter(*store_).write(checkpoint(5), As::last); }
  EXPECT_EQ(value_in(file("last")), 5);
}

/// A pipe in the temporary file's place holds the thread until somebody reads.
TEST_F(CheckpointWriterTest, TheRunGoesOnMeanwhileAndHearsOfAFailure) {
  CheckpointWriter writer(*store_);
  writer.write(checkpoint(1), As::last);
  writer.finish();
  const fs::path pipe = file("last").string() + ".tmp";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  writer.write(checkpoint(2), As::last);  // Would never return if it wrote itself.
  writer.check();                         // Nor this one, if it waited.
  weights_.fill_(-1);
  std::ostringstream read;
  read << std::ifstream(pipe, std::ios::binary).rdbuf();
  std::string message;
  try {
    writer.finish();  // A pipe cannot be flushed to a disk.
  } catch (const std::runtime_error& error) {
    message = error.what();
  }
  EXPECT_NE(message.find(file("last").string()), std::string::npos) << message;
  EXPECT_EQ(value_in(file("last")), 1);
  std::ofstream(run_ / "read", std::ios::binary) << read.str();
  EXPECT_EQ(value_in(run_ / "read"), 2);  // As it was when write() was called.
  writer.finish();                        // Said once.
  writer.write(checkpoint(3), As::last);
  writer.finish();
  EXPECT_EQ(value_in(file("last")), 3);
}

TEST_F(CheckpointWriterTest, CheckThrowsWhenAWriteHasFailed) {
  CheckpointWriter writer(*store_);
  fs::remove_all(run_ / "checkpoints");
  std::ofstream(run_ / "checkpoints") << "no folder";
  writer.write(checkpoint(1), As::best);
  std::string message;
  for (int look = 0; look < 1000 && message.empty(); ++look) {
    try {
      writer.check();
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    } catch (const std::runtime_error& error) {
      message = error.what();
    }
  }
  EXPECT_NE(message.find(file("best").string()), std::string::npos) << message;
}

}  // namespace
}  // namespace vrwkv::testing

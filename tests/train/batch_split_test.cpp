#include "train/batch_split.h"

#include <gtest/gtest.h>

#include <string>

#include "common/errors.h"

namespace vrwkv::testing {
namespace {

TEST(BatchSplit, SharesABatchEvenly) {
  config::TrainOptions options;
  for (int64_t processes = 1; processes <= 5; ++processes) {
    for (int64_t part = 1; part <= 4; ++part) {
      for (int64_t parts = 1; parts <= 3; ++parts) {
        options.batch_size = processes * part * parts;
        options.micro_batch_size = 0;
        options.grad_accumulation = parts;
        const auto by_parts = train::split_batch(options, processes);
        options.micro_batch_size = part;
        options.grad_accumulation = 1;
        const auto by_size = train::split_batch(options, processes);
        for (const auto& split : {by_parts, by_size}) {
          EXPECT_EQ(split.part, part);
          EXPECT_EQ(split.parts, parts);
        }
      }
    }
  }
}

TEST(BatchSplit, SaysWhatWouldComeOutEven) {
  const auto error = [](int64_t batch, int64_t accumulation, int64_t micro, int64_t processes) -> std::string {
    config::TrainOptions options;
    options.batch_size = batch;
    options.grad_accumulation = accumulation;
    options.micro_batch_size = micro;
    try {
      train::split_batch(options, processes);
    } catch (const UsageError& problem) {
      return problem.what();
    }
    return "no error";
  };
  EXPECT_EQ(
      error(100, 2, 0, 8),
      "train.batch_size (100) cannot be shared evenly by 8 processes with 2 parts (train.grad_accumulation); take 96 "
      "or 112");
  EXPECT_EQ(
      error(6, 1, 4, 2),
      "train.batch_size (6) cannot be shared evenly by 2 processes with 4 images at once (train.micro_batch_size); "
      "take 8");
  EXPECT_EQ(error(96, 2, 0, 8), "no error");
}

}  // namespace
}  // namespace vrwkv::testing

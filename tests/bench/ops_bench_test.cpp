#include "bench/ops_bench.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <functional>
#include <new>

#include "common/errors.h"
#include "tests/support/assert_close.h"
#include "tests/support/devices.h"

namespace vrwkv::bench {
namespace {

const OpCase& op_named(const std::string& name) {
  for (const OpCase& op : op_cases()) {
    if (op.name == name) return op;
  }
  throw std::logic_error("no operator " + name);
}

OpSettings quick(at::Device device, at::ScalarType dtype = at::kFloat) {
  OpSettings settings{device, dtype, {}};
  settings.timer.min_seconds = 0.001;
  settings.timer.min_runs = 3;
  return settings;
}

TEST(OpCases, CountTheBytesThatMustMove) {
  const OpSize size{128, 196, 192};
  const double tensor = 128.0 * 196 * 192;
  EXPECT_DOUBLE_EQ(op_named("bi_wkv").forward_bytes(size, 4), 3 * 4 * tensor);
  EXPECT_DOUBLE_EQ(op_named("bi_wkv").backward_bytes(size, 2), 5 * 2 * tensor);
  EXPECT_DOUBLE_EQ(op_named("q_shift").forward_bytes(size, 2), 2 * 2 * tensor);
  EXPECT_DOUBLE_EQ(op_named("q_shift").backward_bytes(size, 8), 2 * 8 * tensor);
  // Images in float32 or wider, and tokens.
  EXPECT_DOUBLE_EQ(op_named("patch_embed").forward_bytes(size, 2), 128.0 * 196 * (3 * 16 * 16 * 4 + 192 * 2));
  EXPECT_DOUBLE_EQ(whole_tensors(1)({1 << 15, 1 << 15, 1 << 15}, 8), 8.0 * (1LL << 45));
}

TEST(OpCases, AreChosenByName) {
  EXPECT_EQ(choose_op_cases({}).size(), op_cases().size());
  const auto chosen = choose_op_cases({"q_shift", "bi_wkv"});
  ASSERT_EQ(chosen.size(), 2u);
  EXPECT_EQ(chosen[0].name, "q_shift");
  try {
    choose_op_cases({"bi_wvk"});
    FAIL() << "no error";
  } catch (const UsageError& error) {
    const std::string message = error.what();
    EXPECT_NE(message.find("--op: expected bi_wkv, "), std::string::npos) << message;
    EXPECT_NE(message.find("got 'bi_wvk' (did you mean 'bi_wkv'?)"), std::string::npos) << message;
  }
}

TEST(OpCases, GridsAreAsSquareAsTheyCanBe) {
  EXPECT_EQ(grid_of(196), std::pair(int64_t{14}, int64_t{14}));
  EXPECT_EQ(grid_of(12), std::pair(int64_t{3}, int64_t{4}));
  EXPECT_EQ(grid_of(7), std::pair(int64_t{1}, int64_t{7}));
  EXPECT_EQ(grid_of(1), std::pair(int64_t{1}, int64_t{1}));
}

TEST(OpCases, ComputeWhatTheirReferencesDo) {
  at::manual_seed(1);
  const OpSize size{2, 12, 64};
  int references = 0;
  for (const OpCase& op : op_cases()) {
    if (!op.reference) continue;
    ++references;
    const OpCase::Tensors inputs = op.make_inputs(size, at::kDouble);
    const OpCase::Tensors results = op.forward(size, inputs), expected = op.reference(size, inputs);
    ASSERT_EQ(results.size(), expected.size()) << op.name;
    for (size_t i = 0; i < results.size(); ++i) {
      EXPECT_TRUE(testing::close(op.name, expected[i], results[i], 1e-10));
    }
  }
  EXPECT_GE(references, 4);
}

TEST(MeasureOp, TimesBothPassesOfEveryOperator) {
  for (const at::Device device : testing::devices()) {
    for (const auto dtype : {at::kDouble, at::kFloat, at::kBFloat16, at::kHalf}) {
      for (const OpCase& op : op_cases()) {
        SCOPED_TRACE(c10::str(op.name, " ", dtype, " ", device));
        const OpResult result = measure_op(op, {2, 9, 64}, quick(device, dtype));
        ASSERT_TRUE(result.forward);
        EXPECT_GT(result.forward->timing.median_ms, 0);
        EXPECT_EQ(result.backward.has_value(), static_cast<bool>(op.backward_bytes));
        EXPECT_FALSE(result.out_of_memory);
      }
    }
  }
}

TEST(MeasureOp, AnOperatorWithoutBackwardHasNone) {
  OpCase op = op_named("q_shift");
  op.backward_bytes = {};
  EXPECT_FALSE(measure_op(op, {1, 4, 4}, quick(at::kCPU)).backward);
}

TEST(MeasureOp, TimesReferences) {
  for (const int64_t tokens : {1, 5}) {
    const OpResult result = measure_op(op_named("bi_wkv"), {1, tokens, 4}, quick(at::kCPU), /*reference=*/true);
    EXPECT_TRUE(result.is_reference);
    EXPECT_TRUE(result.forward && result.backward);
  }
}

TEST(MeasureOp, OutOfMemoryIsARowAndNotTheEnd) {
  const std::function<void()> failures[] = {
      [] { throw std::bad_alloc(); },
      [] { TORCH_CHECK_WITH(OutOfMemoryError, false, "CUDA out of memory. Tried to allocate 1 EiB"); },
      [] { TORCH_CHECK(false, "DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 EiB"); },
      [] { TORCH_CHECK(false, "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)"); }};
  for (const auto& fail : failures) {
    OpCase op = op_named("q_shift");
    op.forward = [&](const OpSize&, const OpCase::Tensors& in) -> OpCase::Tensors {
      fail();
      return in;
    };
    const OpResult result = measure_op(op, {1, 4, 4}, quick(at::kCPU));
    EXPECT_TRUE(result.out_of_memory);
    EXPECT_FALSE(result.forward);
    EXPECT_NE(op_table({result}, 1).text().find("out of memory"), std::string::npos);
    EXPECT_TRUE(op_json(result, 1)["forward"].is_null());
  }
}

TEST(MeasureOp, OtherFailuresPass) {
  OpCase op = op_named("q_shift");
  op.forward = [](const OpSize&, const OpCase::Tensors& in) -> OpCase::Tensors { return {in[0].view({-1, 0})}; };
  EXPECT_THROW(measure_op(op, {1, 4, 4}, quick(at::kCPU)), c10::Error);
}

TEST(OpTable, HasBandwidthAndItsShareOfACopy) {
  const Pass forward{{0.5, 0.4, 0.6, 10}, 1e9}, backward{{4, 3, 5, 10}, 2e9};
  const OpResult result{"bi_wkv", {1, 2, 3}, at::kBFloat16, false, false, forward, backward};
  EXPECT_EQ(op_table({result}, 4000).text(),
            "op      B,T,C  dtype     forward ms    GB/s  % of copy  backward ms   GB/s  % of copy\n"
            "bi_wkv  1,2,3  bfloat16      0.5000  2000.0       50.0        4.000  500.0       12.5\n");
  const auto json = op_json(result, 4000);
  EXPECT_DOUBLE_EQ(json["forward"]["gbs"], 2000);
  EXPECT_DOUBLE_EQ(json["backward"]["copy_share"], 0.125);
  EXPECT_EQ(json["size"], nlohmann::json({1, 2, 3}));
}

TEST(ReferenceRatios, CompareWithTheOperatorOfTheSameSize) {
  const auto result = [](bool reference, double ms) {
    const Pass pass{{ms, ms, ms, 3}, 1e6};
    return OpResult{"bi_wkv", {1, 2, 3}, at::kFloat, reference, false, pass, pass};
  };
  EXPECT_EQ(reference_ratios({result(false, 2), result(true, 50)}),
            "bi_wkv 1,2,3: LibTorch's own operations take 25.0 times as long forward, 25.0 times backward\n");
  EXPECT_EQ(reference_ratios({result(false, 2)}), "");
}

}  // namespace
}  // namespace vrwkv::bench

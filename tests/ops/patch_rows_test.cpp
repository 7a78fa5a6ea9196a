#include "ops/patch_rows.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "tests/support/assert_close.h"
#include "tests/support/devices.h"

namespace vrwkv::testing {
namespace {

class PatchRows : public ::testing::TestWithParam<at::Device> {
 protected:
  static at::Tensor images(at::IntArrayRef sizes, at::ScalarType dtype) {
    return at::randn(sizes, at::kDouble).to(GetParam(), dtype);
  }
};

INSTANTIATE_TEST_SUITE_P(Devices, PatchRows, ::testing::ValuesIn(devices()), device_name);

/// Patch by patch.
at::Tensor expected_rows(const at::Tensor& images, int64_t patch) {
  std::vector<at::Tensor> rows;
  for (int64_t y = 0; y < images.size(2); y += patch) {
    for (int64_t x = 0; x < images.size(3); x += patch) {
      rows.push_back(images.narrow(2, y, patch).narrow(3, x, patch).flatten(1));
    }
  }
  return at::stack(rows, 1);
}

TEST_P(PatchRows, AreThePixelsOfEachPatch) {
  at::manual_seed(1);
  struct Shape {
    std::vector<int64_t> sizes;
    int64_t patch;
  };
  const std::vector<Shape> shapes{{{2, 3, 32, 48}, 16}, {{1, 3, 16, 16}, 16},  {{3, 1, 24, 40}, 8},
                                  {{2, 5, 64, 32}, 32}, {{2, 3, 8, 12}, 4},    {{1, 2, 21, 14}, 7},
                                  {{0, 3, 16, 16}, 16}, {{5, 3, 224, 224}, 16}};
  for (const auto& [sizes, patch] : shapes) {
    for (const auto from : {at::kFloat, at::kBFloat16, at::kHalf, at::kDouble}) {
      for (const auto to : {at::kBFloat16, at::kHalf, at::kFloat, at::kDouble}) {
        SCOPED_TRACE(c10::str(at::IntArrayRef(sizes), " in patches of ", patch, ", ", from, " to ", to));
        const at::Tensor x = images(sizes, from);
        const at::Tensor rows = ops::patch_rows(x, patch, to);
        EXPECT_TRUE(rows.is_contiguous());
        EXPECT_EQ(rows.scalar_type(), to);
        EXPECT_TRUE(at::equal(rows, expected_rows(x, patch).to(to)));
      }
    }
  }
}

TEST_P(PatchRows, TakeImagesInAnyLayout) {
  at::manual_seed(2);
  const at::Tensor whole = images({2, 3, 40, 64}, at::kFloat);
  const std::vector<at::Tensor> layouts{whole.narrow(2, 3, 32), whole.narrow(3, 1, 48).narrow(2, 0, 32),
                                        whole.narrow(2, 0, 32).contiguous(at::MemoryFormat::ChannelsLast),
                                        whole.flatten().narrow(0, 1, 2 * 3 * 16 * 16).view({2, 3, 16, 16})};
  for (const at::Tensor& x : layouts) {
    EXPECT_TRUE(at::equal(ops::patch_rows(x, 16, at::kBFloat16), expected_rows(x, 16).to(at::kBFloat16)));
  }
}

TEST_P(PatchRows, HaveTheGradientOfImages) {
  at::manual_seed(3);
  at::Tensor x = images({2, 3, 32, 48}, at::kFloat).requires_grad_();
  const at::Tensor rows = ops::patch_rows(x, 16, at::kBFloat16);
  const at::Tensor factors = at::randn_like(rows.detach());
  (rows * factors).sum().backward();
  const at::Tensor columns = factors.to(at::kFloat).unflatten(2, {3, 16, 16}).unflatten(1, {2, 3});
  EXPECT_TRUE(at::equal(x.grad(), columns.permute({0, 3, 1, 4, 2, 5}).reshape(x.sizes())));
}

TEST_P(PatchRows, NameWhatIsWrong) {
  EXPECT_THROW(ops::patch_rows(images({2, 3, 20, 32}, at::kFloat), 16, at::kFloat), c10::Error);
  EXPECT_THROW(ops::patch_rows(images({3, 32, 32}, at::kFloat), 16, at::kFloat), c10::Error);
  EXPECT_THROW(ops::patch_rows(images({2, 3, 32, 32}, at::kFloat), 0, at::kFloat), c10::Error);
  EXPECT_THROW(ops::patch_rows(images({2, 3, 32, 32}, at::kFloat), 16, at::kLong), c10::Error);
  EXPECT_THROW(ops::patch_rows(images({2, 3, 32, 32}, at::kFloat).to(at::kByte), 16, at::kFloat), c10::Error);
}

}  // namespace
}  // namespace vrwkv::testing

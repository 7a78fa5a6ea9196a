#include "ops/side_by_side.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <vector>

namespace vrwkv::testing {
namespace {

using Tensors = std::vector<at::Tensor>;

at::Tensor side_by_side(const Tensors& parts) { return ops::side_by_side(parts, parts[0]); }

/// Equal to the concatenation, and a view of the parts or not.
void expect_concatenation(const Tensors& parts, bool view) {
  const at::Tensor whole = side_by_side(parts);
  EXPECT_TRUE(at::equal(whole, at::cat(parts, -1)));
  EXPECT_TRUE(whole.is_contiguous());
  EXPECT_EQ(whole.is_alias_of(parts[0]), view);
}

TEST(SideBySide, IsTheTensorWhoseSlicesThePartsAre) {
  for (const std::vector<int64_t>& sizes :
       std::vector<std::vector<int64_t>>{{2, 5, 12}, {1, 5, 12}, {2, 1, 12}, {1, 1, 12}, {7, 3}, {1, 3}, {9}}) {
    const at::Tensor whole = at::randn(sizes);
    expect_concatenation(whole.chunk(3, -1), true);
  }
  const at::Tensor longer = at::randn({6, 5, 12});
  expect_concatenation(longer.slice(0, 2, 4).chunk(3, -1), true);  // From the middle of a storage.
}

TEST(SideBySide, CopiesWhatIsNot) {
  const at::Tensor whole = at::randn({2, 5, 12});
  const Tensors slices = whole.chunk(3, -1);
  expect_concatenation({slices[1], slices[0], slices[2]}, false);                             // in another order
  expect_concatenation({slices[0], slices[0], slices[0]}, false);                             // one alone
  expect_concatenation({slices[0], slices[1]}, false);                                        // two of three
  expect_concatenation({slices[0].clone(), slices[1].clone(), slices[2].clone()}, false);     // each on its own
  expect_concatenation(whole.slice(1, 0, 4).chunk(3, -1), false);                             // of a tensor with gaps
  expect_concatenation(whole.transpose(0, 1).chunk(3, -1), false);                            // transposed
  expect_concatenation({whole.select(1, 0), whole.select(1, 1), whole.select(1, 2)}, false);  // too far apart
}

TEST(SideBySide, TakesUndefinedPartsAsZeros) {
  const Tensors slices = at::randn({2, 5, 12}).chunk(3, -1);
  const at::Tensor zeros = at::zeros_like(slices[0]);
  EXPECT_TRUE(at::equal(ops::side_by_side({slices[0], at::Tensor(), slices[2]}, slices[0]),
                        at::cat({slices[0], zeros, slices[2]}, -1)));
  EXPECT_TRUE(at::equal(ops::side_by_side({at::Tensor(), at::Tensor()}, slices[0]), at::cat({zeros, zeros}, -1)));
  EXPECT_EQ(side_by_side({at::empty({0, 5, 4}), at::empty({0, 5, 4})}).sizes(), at::IntArrayRef({0, 5, 8}));
}

}  // namespace
}  // namespace vrwkv::testing

#include "bench/tensor_scan.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "ops/bi_wkv.h"
#include "tests/support/assert_close.h"

namespace vrwkv::bench {
namespace {

struct Results {
  at::Tensor y;
  std::vector<at::Tensor> gradients;
};

Results run(const auto& op, std::vector<at::Tensor> inputs, const at::Tensor& gy) {
  for (at::Tensor& input : inputs) input = input.detach().clone().requires_grad_();
  const at::Tensor y = op(inputs[0], inputs[1], inputs[2], inputs[3]);
  auto gradients = torch::autograd::grad({y}, inputs, {gy}, /*retain_graph=*/false, /*create_graph=*/false,
                                         /*allow_unused=*/true);
  for (std::size_t i = 0; i < inputs.size(); ++i) {  // with one token w does not count
    if (!gradients[i].defined()) gradients[i] = at::zeros_like(inputs[i]);
  }
  return {y, gradients};
}

void expect_equal_to_operator(const std::vector<at::Tensor>& inputs, double tolerance) {
  const at::Tensor gy = at::randn_like(inputs[2]);
  const Results expected = run(ops::bi_wkv, inputs, gy), found = run(tensor_scan_bi_wkv, inputs, gy);
  EXPECT_EQ(found.y.scalar_type(), expected.y.scalar_type());
  EXPECT_TRUE(testing::close("y", expected.y, found.y, tolerance));
  const char* names[] = {"gw", "gu", "gk", "gv"};
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_TRUE(testing::close(names[i], expected.gradients[i], found.gradients[i], tolerance));
  }
}

TEST(TensorScan, EqualsTheOperator) {
  at::manual_seed(1);
  for (const int64_t tokens : {1, 2, 9, 65}) {
    for (const double scale : {1.0, 20.0}) {  // of the keys and of w T
      SCOPED_TRACE(c10::str("T = ", tokens, ", scale ", scale));
      const auto options = at::TensorOptions(at::kDouble);
      const at::Tensor w = scale * at::randn({6}, options) / static_cast<double>(tokens);
      const at::Tensor u = at::randn({6}, options);
      const at::Tensor k = scale * at::randn({2, tokens, 6}, options), v = at::randn({2, tokens, 6}, options);
      expect_equal_to_operator({w, u, k, v}, 1e-11);
    }
  }
}

TEST(TensorScan, ComputesReducedPrecisionInFloat) {
  at::manual_seed(2);
  const at::Tensor w = at::randn({5}) / 12, u = at::randn({5});
  expect_equal_to_operator({w, u, at::randn({2, 12, 5}).to(at::kBFloat16), at::randn({2, 12, 5}).to(at::kBFloat16)},
                           1e-2);
}

}  // namespace
}  // namespace vrwkv::bench

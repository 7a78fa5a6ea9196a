#include "ops/add_places.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "tests/support/assert_close.h"
#include "tests/support/devices.h"

namespace vrwkv::testing {
namespace {

class AddPlaces : public ::testing::TestWithParam<at::Device> {};

INSTANTIATE_TEST_SUITE_P(Devices, AddPlaces, ::testing::ValuesIn(devices()), device_name);

TEST_P(AddPlaces, AreTheSumAndItsGradients) {
  at::manual_seed(1);
  const std::vector<std::vector<int64_t>> shapes{{1, 1, 8},  {2, 31, 192}, {9, 196, 24}, {300, 7, 16},
                                                 {3, 5, 13}, {0, 4, 8},    {17, 3, 40},  {8, 1024, 192}};
  for (const auto& sizes : shapes) {
    for (const auto dtype : {at::kDouble, at::kFloat, at::kBFloat16, at::kHalf}) {
      SCOPED_TRACE(c10::str(at::IntArrayRef(sizes), " ", dtype));
      const auto parameters = dtype == at::kDouble ? at::kDouble : at::kFloat;
      const auto draw = [&](at::IntArrayRef shape, at::ScalarType type) {
        return at::randn(shape, at::kDouble).to(GetParam(), type).requires_grad_();
      };
      const at::Tensor x = draw(sizes, dtype), bias = draw({sizes[2]}, parameters),
                       places = draw({1, sizes[1], sizes[2]}, parameters);
      const at::Tensor y = ops::add_places(x, bias, places);
      const auto wide = [](const at::Tensor& tensor) { return tensor.detach().to(at::kCPU, at::kDouble); };
      const double rounding = dtype == at::kBFloat16 ? 4e-3 : (dtype == at::kHalf ? 5e-4 : 1e-6);
      EXPECT_EQ(y.scalar_type(), dtype);
      EXPECT_TRUE(close("sum", wide(x) + wide(bias) + wide(places), y.detach(), rounding));
      const at::Tensor gradient = at::randn(sizes, at::kDouble).to(GetParam(), dtype);
      y.backward(gradient);
      EXPECT_TRUE(at::equal(x.grad(), gradient));
      EXPECT_EQ(bias.grad().scalar_type(), parameters);
      EXPECT_TRUE(close("bias", wide(gradient).sum(at::IntArrayRef{0, 1}), bias.grad(), 2e-6));
      EXPECT_TRUE(close("places", wide(gradient).sum(at::IntArrayRef{0}, true), places.grad(), 2e-6));
    }
  }
}

TEST_P(AddPlaces, NeedNotDifferentiateAll) {
  const auto like = at::TensorOptions(GetParam()).dtype(at::kFloat);
  const at::Tensor x = at::ones({2, 3, 8}, like.dtype(at::kBFloat16)).requires_grad_();
  const at::Tensor bias = at::ones({8}, like), places = at::ones({1, 3, 8}, like).requires_grad_();
  ops::add_places(x, bias, places.detach()).sum().backward();
  EXPECT_TRUE(at::equal(x.grad(), at::ones_like(x)));
  ops::add_places(x.detach(), bias, places).sum().backward();
  EXPECT_TRUE(at::equal(places.grad(), at::full_like(places, 2)));
}

TEST_P(AddPlaces, NameWhatIsWrong) {
  const at::Tensor x = at::ones({2, 3, 8}, GetParam()), bias = at::ones({8}, GetParam()),
                   places = at::ones({1, 3, 8}, GetParam());
  EXPECT_THROW(ops::add_places(x[0], bias, places), c10::Error);
  EXPECT_THROW(ops::add_places(x, bias.narrow(0, 0, 4), places), c10::Error);
  EXPECT_THROW(ops::add_places(x, bias, places.narrow(1, 0, 2)), c10::Error);
  EXPECT_THROW(ops::add_places(x, bias, x), c10::Error);
}

}  // namespace
}  // namespace vrwkv::testing

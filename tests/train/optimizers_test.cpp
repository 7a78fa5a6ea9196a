#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/support/assert_close.h"
#include "tests/support/devices.h"
#include "train/make_optimizer.h"
#include "train/train_step.h"

namespace vrwkv::testing {
namespace {

using config::OptimizerName;

config::OptimizerOptions options_of(OptimizerName name) {
  config::OptimizerOptions options;
  options.name = name;
  options.lr = 0.1;
  return options;
}

/// Two groups of awkward shapes: decayed (one of them all zero) at half the learning rate, and not decayed.
struct Parameters {
  explicit Parameters(const at::TensorOptions& options = at::kDouble)
      : a(at::randn({3, 5}, options).requires_grad_()),
        zero(at::zeros({7}, options).requires_grad_()),
        b(at::randn({1}, options).requires_grad_()) {}

  at::Tensor a, zero, b;

  std::vector<at::Tensor> all() const { return {a, zero, b}; }
  std::vector<train::ParamGroup> groups() const {
    return {{{{"a", a}, {"zero", zero}}, 0.3, 0.5}, {{{"b", b}}, 0.0, 1.0}};
  }
  void draw_gradients() const {
    for (at::Tensor parameter : all()) parameter.mutable_grad() = at::randn_like(parameter.detach());
  }
};

/// float32 on a GPU, where the learning rate is a tensor; float64 on the CPU.
class OptimizersTest : public ::testing::TestWithParam<std::tuple<OptimizerName, at::Device>> {
 protected:
  config::OptimizerOptions options() const { return options_of(std::get<0>(GetParam())); }
  at::TensorOptions tensors() const {
    const at::Device device = std::get<1>(GetParam());
    return at::TensorOptions(device).dtype(device.is_cuda() ? at::kFloat : at::kDouble);
  }
  at::Tensor flag(double value) const { return at::full({}, value, tensors().dtype(at::kFloat)); }
};

std::string name_of(const ::testing::TestParamInfo<OptimizersTest::ParamType>& info) {
  const auto& [name, device] = info.param;
  const std::string text = name == OptimizerName::adamw ? "adamw" : (name == OptimizerName::lamb ? "lamb" : "sgd");
  return text + (device.is_cuda() ? "_cuda" : "_cpu");
}

INSTANTIATE_TEST_SUITE_P(NamesAndDevices, OptimizersTest,
                         ::testing::Combine(::testing::Values(OptimizerName::adamw, OptimizerName::lamb,
                                                              OptimizerName::sgd),
                                            ::testing::ValuesIn(devices())),
                         name_of);

TEST(Lamb, FollowsTheWrittenOutFormula) {
  at::manual_seed(3);
  auto options = options_of(OptimizerName::lamb);
  options.betas = {0.8, 0.95};
  options.eps = 1e-3;
  const Parameters parameters;
  const auto optimizer = train::make_optimizer(parameters.groups(), options);
  std::vector<at::Tensor> p, m, v;
  for (const at::Tensor& parameter : parameters.all()) {
    p.push_back(parameter.detach().clone());
    m.push_back(at::zeros_like(p.back()));
    v.push_back(at::zeros_like(p.back()));
  }
  const double decays[] = {0.3, 0.3, 0.0}, scales[] = {0.5, 0.5, 1.0};
  for (int step = 1; step <= 6; ++step) {
    const double lr = 0.1 / step;
    parameters.draw_gradients();
    optimizer->set_learning_rate(lr);
    for (size_t i = 0; i < 3; ++i) {
      const at::Tensor g = parameters.all()[i].grad();
      m[i] = 0.8 * m[i] + 0.2 * g;
      v[i] = 0.95 * v[i] + 0.05 * g * g;
      const at::Tensor u =
          m[i] / (1 - std::pow(0.8, step)) / ((v[i] / (1 - std::pow(0.95, step))).sqrt() + 1e-3) + decays[i] * p[i];
      const double size = p[i].norm().item<double>();
      const double trust = decays[i] > 0 && size > 0 ? size / u.norm().item<double>() : 1.0;
      p[i] = p[i] - lr * scales[i] * trust * u;
    }
    optimizer->step();
    for (size_t i = 0; i < 3; ++i) EXPECT_TRUE(close("parameter", p[i], parameters.all()[i].detach(), 1e-12));
  }
}

TEST(Sgd, FollowsTheWrittenOutFormula) {
  for (const auto& [momentum, nesterov] : {std::pair{0.0, false}, {0.7, false}, {0.7, true}}) {
    at::manual_seed(4);
    auto options = options_of(OptimizerName::sgd);
    options.momentum = momentum;
    options.nesterov = nesterov;
    const Parameters parameters;
    const auto optimizer = train::make_optimizer(parameters.groups(), options);
    EXPECT_EQ(optimizer->state().size(), momentum > 0 ? 4U : 1U);
    std::vector<at::Tensor> p, b;
    for (const at::Tensor& parameter : parameters.all()) {
      p.push_back(parameter.detach().clone());
      b.push_back(at::zeros_like(p.back()));
    }
    const double decays[] = {0.3, 0.3, 0.0}, scales[] = {0.5, 0.5, 1.0};
    for (int step = 0; step < 5; ++step) {
      parameters.draw_gradients();
      for (size_t i = 0; i < 3; ++i) {
        const at::Tensor g = parameters.all()[i].grad() + decays[i] * p[i];
        b[i] = momentum * b[i] + g;
        p[i] = p[i] - 0.1 * scales[i] * (nesterov ? g + momentum * b[i] : b[i]);
      }
      optimizer->step();
      for (size_t i = 0; i < 3; ++i) EXPECT_TRUE(close("parameter", p[i], parameters.all()[i].detach(), 1e-12));
    }
  }
}

// The numbers are those of torch.optim.SGD and AdamW of Python's torch 2.11 in float64:
//   p = torch.tensor([1., -2.], dtype=torch.float64, requires_grad=True); three steps with p.grad = 0.5 * p + 0.1,
// lr 0.1, weight_decay 0.05, nesterov momentum 0.9.
TEST(Optimizers, AgreeWithPythonsTorch) {
  const auto run = [](config::OptimizerOptions options) {
    at::Tensor p = at::tensor({1.0, -2.0}, at::kDouble).requires_grad_();
    const auto optimizer = train::make_optimizer({{{{"p", p}}, 0.05, 1.0}}, options);
    for (int step = 0; step < 3; ++step) {
      p.mutable_grad() = 0.5 * p.detach() + 0.1;
      optimizer->step();
    }
    return p.detach();
  };
  auto sgd = options_of(OptimizerName::sgd);
  sgd.nesterov = true;
  EXPECT_TRUE(close("sgd", at::tensor({0.5251874491249999, -1.2695191525}, at::kDouble), run(sgd), 1e-14));
  EXPECT_TRUE(close("adamw", at::tensor({0.6878768653773965, -1.6724496914931648}, at::kDouble),
                    run(options_of(OptimizerName::adamw)), 1e-14));
}

TEST_P(OptimizersTest, ASkippedStepLeavesEverythingAsItWas) {
  at::manual_seed(5);
  const Parameters parameters(tensors());
  const auto optimizer = train::make_optimizer(parameters.groups(), options());
  parameters.draw_gradients();
  optimizer->step(flag(0));  // Not skipped.
  EXPECT_EQ(optimizer->state().at("step").item<float>(), 1);
  std::vector<at::Tensor> before;
  for (const at::Tensor& parameter : parameters.all()) before.push_back(parameter.detach().clone());
  std::map<std::string, at::Tensor> state;
  for (const auto& [name, value] : optimizer->state()) state.emplace(name, value.clone());
  for (const double bad : {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity(), 1.0}) {
    for (at::Tensor parameter : parameters.all()) parameter.mutable_grad() = at::full_like(parameter.detach(), bad);
    optimizer->step(flag(1));
    for (size_t i = 0; i < 3; ++i) EXPECT_TRUE(at::equal(before[i], parameters.all()[i].detach())) << bad;
    for (const auto& [name, value] : optimizer->state()) EXPECT_TRUE(at::equal(state.at(name), value)) << name;
  }
  parameters.draw_gradients();
  optimizer->step(flag(0));
  EXPECT_FALSE(at::equal(before[0], parameters.a.detach()));
  EXPECT_EQ(optimizer->state().at("step").item<float>(), 2);
}

TEST_P(OptimizersTest, AStepThatMayBeSkippedIsTheSameStep) {
  std::vector<at::Tensor> results;
  for (const bool may_skip : {false, true}) {
    at::manual_seed(6);
    const Parameters parameters(tensors());
    const auto optimizer = train::make_optimizer(parameters.groups(), options());
    for (int step = 0; step < 3; ++step) {
      parameters.draw_gradients();
      optimizer->step(may_skip ? flag(0) : at::Tensor());
    }
    results.push_back(parameters.a.detach());
  }
  EXPECT_TRUE(at::equal(results[0], results[1]));
}

TEST_P(OptimizersTest, ContinuesFromItsSavedState) {
  at::manual_seed(7);
  const Parameters first(tensors()), second(tensors());
  const auto one = train::make_optimizer(first.groups(), options());
  const auto two = train::make_optimizer(second.groups(), options());
  const auto step = [](const Parameters& parameters, train::Optimizer& optimizer) {
    for (at::Tensor parameter : parameters.all()) parameter.mutable_grad() = parameter.detach() * 0.7 + 0.1;
    optimizer.step();
  };
  for (int i = 0; i < 4; ++i) step(first, *one);
  two->load_state(one->state());
  {
    const at::NoGradGuard no_grad;
    for (size_t i = 0; i < 3; ++i) second.all()[i].copy_(first.all()[i]);
  }
  for (int i = 0; i < 4; ++i) {
    step(first, *one);
    step(second, *two);
  }
  for (size_t i = 0; i < 3; ++i) EXPECT_TRUE(at::equal(first.all()[i].detach(), second.all()[i].detach()));
}

TEST_P(OptimizersTest, ScaledAndClippedGradientsAreTheNextStepsAlone) {
  at::manual_seed(8);
  const Parameters given(tensors()), wide;
  const auto optimizer = train::make_optimizer(given.groups(), options());
  const auto expected = train::make_optimizer(wide.groups(), options());
  {
    const at::NoGradGuard no_grad;
    for (size_t i = 0; i < 3; ++i) wide.all()[i].copy_(given.all()[i]);
  }
  for (const double max_norm : {0.5, 0.0, 1e3, 0.25}) {
    given.draw_gradients();
    std::vector<at::Tensor> squares;
    for (size_t i = 0; i < 3; ++i) {
      wide.all()[i].mutable_grad() = given.all()[i].grad().to(at::kCPU, at::kDouble) * 0.375;
      squares.push_back(wide.all()[i].grad().square().sum());
    }
    const double norm = at::stack(squares).sum().sqrt().item<double>();
    const double coefficient = max_norm > 0 ? std::min(1.0, max_norm / (norm + 1e-6)) : 1.0;
    for (const at::Tensor& parameter : wide.all()) parameter.grad().mul_(coefficient);
    optimizer->scale_gradients(flag(0.375).to(tensors().dtype()));
    EXPECT_NEAR(optimizer->clip_grad_norm(max_norm).item<double>(), norm, 1e-5);
    optimizer->step();
    expected->step();
    given.draw_gradients();
    for (size_t i = 0; i < 3; ++i) wide.all()[i].mutable_grad() = given.all()[i].grad().to(at::kCPU, at::kDouble);
    optimizer->step();
    expected->step();
    for (size_t i = 0; i < 3; ++i) {
      EXPECT_TRUE(close("parameter", wide.all()[i].detach(), given.all()[i].detach(), 1e-5));
    }
  }
}

TEST_P(OptimizersTest, GradientsThatAreDroppedTakeTheirFactorsAlong) {
  at::Tensor p = at::ones({4}, tensors()).requires_grad_();
  const auto optimizer = train::make_optimizer({{{{"p", p}}, 0.0, 1.0}}, options());
  p.mutable_grad() = at::ones_like(p.detach());
  optimizer->scale_gradients(flag(0).to(tensors().dtype()));
  optimizer->zero_grad();
  p.mutable_grad() = at::ones_like(p.detach());
  EXPECT_NEAR(optimizer->clip_grad_norm(0).item<double>(), 2.0, 1e-6);
  optimizer->step();
  EXPECT_LT(p.detach().max().item<double>(), 1.0);
}

TEST_P(OptimizersTest, TrainStepSkipsUnlessTheNormIsAtMostTheThreshold) {
  at::Tensor p = at::full({1}, 2.0, tensors()).requires_grad_();
  const auto optimizer = train::make_optimizer({{{{"p", p}}, 0.0, 1.0}}, options());
  const at::Tensor skip_above = flag(3);
  const auto run = [&](double slope) {
    const double before = p.item<double>();
    const auto result = train::train_step([&](int64_t) { return (p * slope).sum(); }, 1, *optimizer, 0.5, skip_above);
    EXPECT_EQ(result.skipped.item<float>(), p.item<double>() == before ? 1.0F : 0.0F);
    return p.item<double>() == before;
  };
  EXPECT_FALSE(run(3.0));
  EXPECT_TRUE(run(3.5));
  EXPECT_TRUE(run(std::numeric_limits<double>::infinity()));
  EXPECT_TRUE(run(std::numeric_limits<double>::quiet_NaN()));
  skip_above.fill_(4.0);  // The tensor is read in each step.
  EXPECT_FALSE(run(3.5));
}

}  // namespace
}  // namespace vrwkv::testing

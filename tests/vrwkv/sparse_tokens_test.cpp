#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <set>

#include "tests/support/assert_close.h"
#include "tests/support/devices.h"
#include "vrwkv/layers/token_shift.h"
#include "vrwkv/random_masking.h"
#include "vrwkv/vrwkv.h"

namespace vrwkv::testing {
namespace {

constexpr Shift kShifts[] = {Shift::q_shift, Shift::single_shift, Shift::bidirectional};

/// shift_tokens() token by token: what each channel reads, found by looking through the positions.
at::Tensor shift_reference(const at::Tensor& x, const Tokens& tokens, Shift shift, int64_t group) {
  const int64_t batch = x.size(0), count = x.size(1), channels = x.size(2);
  at::Tensor result = at::zeros_like(x);
  const auto position = [&](int64_t b, int64_t t) {
    return tokens.sparse() ? tokens.positions[b][t].item<int64_t>() : t;
  };
  const auto token_at = [&](int64_t b, int64_t row, int64_t column) -> int64_t {
    if (row < 0 || row >= tokens.grid.height || column < 0 || column >= tokens.grid.width) return -1;
    for (int64_t t = 0; t < count; ++t) {
      if (position(b, t) == row * tokens.grid.width + column) return t;
    }
    return -1;
  };
  for (int64_t b = 0; b < batch; ++b) {
    for (int64_t t = 0; t < count; ++t) {
      const int64_t row = position(b, t) / tokens.grid.width, column = position(b, t) % tokens.grid.width;
      for (int64_t c = 0; c < channels; ++c) {
        int64_t source = t - 1;
        if (shift == Shift::bidirectional && c % group >= group / 2) source = t + 1;
        if (shift == Shift::q_shift) {
          const int64_t of = c % group, quarter = of < group / 4 ? 0 : of < group / 2 ? 1 : of < group * 3 / 4 ? 2 : 3;
          const int64_t down[] = {0, 0, -1, 1}, right[] = {-1, 1, 0, 0};
          source = token_at(b, row + down[quarter], column + right[quarter]);
        }
        if (source >= 0 && source < count) result[b][t][c] = x[b][source][c];
      }
    }
  }
  return result;
}

TEST(TokenShift, ReadsTheNeighboursThatAreThere) {
  torch::manual_seed(1);
  for (const Shift shift : kShifts) {
    for (const auto& [grid, visible] : {std::pair{Grid{1, 1}, 1}, {Grid{3, 4}, 5}, {Grid{5, 2}, 10}, {Grid{1, 7}, 3}}) {
      const at::Tensor positions = random_masking(at::rand({2, grid.tokens()}), visible).kept;
      const at::Tensor some = at::randn({2, visible, 10}), all = at::randn({2, grid.tokens(), 10});
      for (const int64_t group : {10, 5}) {
        EXPECT_TRUE(at::equal(shift_tokens(some, {grid, positions}, shift, group),
                              shift_reference(some, {grid, positions}, shift, group)));
        EXPECT_TRUE(at::equal(shift_tokens(all, grid, shift, group), shift_reference(all, grid, shift, group)));
      }
    }
  }
}

class SparseTokens : public ::testing::TestWithParam<std::tuple<Attention, Shift>> {
 protected:
  static Vrwkv model() {
    torch::manual_seed(2);
    VrwkvOptions options;
    options.img_size = 24;
    options.patch_size = 4;
    options.embed_dims = 64;
    options.depth = 2;
    options.attention = std::get<0>(GetParam());
    options.shift = std::get<1>(GetParam());
    Vrwkv backbone(options);
    const at::NoGradGuard no_grad;
    for (at::Tensor& parameter : backbone->parameters()) parameter.add_(at::randn_like(parameter), 0.1);
    backbone->to(at::kDouble);
    return backbone;
  }
};

INSTANTIATE_TEST_SUITE_P(All, SparseTokens,
                         ::testing::Combine(::testing::Values(Attention::bi_wkv, Attention::bi_wkv6),
                                            ::testing::ValuesIn(kShifts)));

TEST_P(SparseTokens, AllInOrderAreTheDenseOnes) {
  Vrwkv backbone = model();
  for (const auto& [height, width] : {std::pair{24, 24}, {12, 20}}) {
    const at::Tensor images = at::randn({2, 3, height, width}, at::kDouble);
    const int64_t tokens = height * width / 16;
    const at::Tensor dense = backbone->forward(images)[0].flatten(2).transpose(1, 2);
    const at::Tensor sparse = backbone->visible(images, at::arange(tokens).expand({2, -1}));
    EXPECT_TRUE(close("tokens", dense, sparse, 1e-12));
    std::vector<at::Tensor> gradients[2];
    for (const bool is_sparse : {false, true}) {
      backbone->zero_grad();
      (is_sparse ? sparse : dense).square().sum().backward();
      for (const auto& parameter : backbone->parameters()) gradients[is_sparse].push_back(parameter.grad().clone());
    }
    for (size_t i = 0; i < gradients[0].size(); ++i) {
      EXPECT_TRUE(close("gradient", gradients[0][i], gradients[1][i], 1e-10, 1e-10));
    }
  }
}

TEST_P(SparseTokens, DependOnTheVisiblePatchesAlone) {
  Vrwkv backbone = model();
  const at::Tensor positions = at::tensor({7, 3, 22, 30, 0, 8, 35, 1, 19, 20}, at::kLong).view({2, 5});
  const at::Tensor images = at::randn({2, 3, 24, 24}, at::kDouble).requires_grad_();
  const at::Tensor tokens = backbone->visible(images, positions);
  ASSERT_EQ(tokens.sizes(), (std::vector<int64_t>{2, 5, 64}));
  tokens.mul(at::randn_like(tokens)).sum().backward();
  const at::Tensor touched = images.grad().abs().sum(1).unfold(1, 4, 4).unfold(2, 4, 4).sum({3, 4}).flatten(1) > 0;
  EXPECT_TRUE(at::equal(touched, at::zeros({2, 36}, at::kBool).scatter(1, positions, true)));
}

TEST(RandomMasking, KeepsTheSmallestInTheirOrder) {
  torch::manual_seed(3);
  for (const auto& [tokens, visible] : {std::pair{1, 1}, {2, 1}, {36, 9}, {197, 49}}) {
    const at::Tensor noise = at::rand({5, tokens});
    const auto [kept, restore, mask] = random_masking(noise, visible);
    ASSERT_EQ(kept.sizes(), (std::vector<int64_t>{5, visible}));
    const at::Tensor kept_noise = noise.gather(1, kept);
    EXPECT_TRUE((kept_noise.slice(1, 1) >= kept_noise.slice(1, 0, -1)).all().item<bool>());
    for (int64_t b = 0; b < 5; ++b) {
      std::set<int64_t> numbers;
      for (int64_t i = 0; i < visible; ++i) {
        const auto number = kept[b][i].item<int64_t>();
        numbers.insert(number);
        EXPECT_EQ(restore[b][number].item<int64_t>(), i);
        EXPECT_EQ(mask[b][number].item<float>(), 0.0F);
      }
      EXPECT_EQ(std::ssize(numbers), visible);
      EXPECT_EQ(mask[b].sum().item<int64_t>(), tokens - visible);
      EXPECT_TRUE(at::equal(std::get<0>(restore[b].sort()), at::arange(tokens)));
      const at::Tensor hidden = noise[b].masked_select(mask[b] == 1);
      if (visible < tokens) {
        EXPECT_LE(kept_noise[b].max().item<float>(), hidden.min().item<float>());
      }
    }
  }
  EXPECT_THROW(random_masking(at::rand({2, 3}), 4), c10::Error);
}

TEST(RandomMasking, EqualNoiseKeepsTheFirst) {
  const auto masking = random_masking(at::zeros({1, 40}), 10);
  EXPECT_TRUE(at::equal(masking.kept, at::arange(10).unsqueeze(0)));
}

TEST(RandomMasking, NoiseIsTheGenerators) {
  const auto draw = [](uint64_t seed) {
    return masking_noise(2, 9, at::kCPU, at::make_generator<at::CPUGeneratorImpl>(seed));
  };
  EXPECT_TRUE(at::equal(draw(4), draw(4)));
  EXPECT_FALSE(at::equal(draw(4), draw(5)));
}

}  // namespace
}  // namespace vrwkv::testing

#include "tools/activation_memory.h"

#include <gtest/gtest.h>

namespace vrwkv::tools {
namespace {

constexpr int64_t kSide = 5, kTokens = kSide * kSide, kPatch = 3, kChannels = 22, kHidden = 3, kClasses = 7;

ClassifierOptions awkward() {
  ClassifierOptions options;
  options.num_classes = kClasses;
  VrwkvOptions& backbone = options.backbone;
  backbone.img_size = 12;  // Another grid than that of the images.
  backbone.patch_size = kPatch;
  backbone.embed_dims = kChannels;
  backbone.depth = 6;
  backbone.hidden_rate = kHidden;
  return options;
}

ActivationMemory measured(const ClassifierOptions& options, config::Dtype dtype = config::Dtype::float32) {
  return measure_activations(options, kSide * kPatch, {at::kCPU, dtype});
}

// The tensors that the derivatives of a pre-normalised block's operations read on the CPU. T C each: the feed, itself
// and with its affine part, its shift and 3 mixes; k, v; the gate, y and their product; the sum; then the feed, its
// affine part, shift and 2 mixes; value, gate and the sum. T C hidden: the hidden values and their squares. T: mean and
// deviation of two norms.
constexpr int64_t kBlockNumbers = kTokens * (kChannels * (20 + 2 * kHidden) + 4);

// Besides: the pixels; the tokens, ln0 of them, and the statistics of its norm and of the one that follows; their mean,
// its normalised form and the logits.
constexpr int64_t kRestNumbers =
    kTokens * (3 * kPatch * kPatch + 2 * kChannels + 4) + 2 * kChannels + kClasses + kBlockNumbers;

TEST(ActivationMemory, IsTheSumOfWhatTheDerivativesRead) {
  for (const auto& [dtype, bytes] : {std::pair(config::Dtype::float32, 4), std::pair(config::Dtype::float64, 8)}) {
    const ActivationMemory memory = measured(awkward(), dtype);
    EXPECT_EQ(memory.block, bytes * kBlockNumbers);
    EXPECT_EQ(memory.rest, bytes * kRestNumbers);
    EXPECT_EQ(memory.total, bytes * (5 * kBlockNumbers + kRestNumbers));
  }
}

TEST(ActivationMemory, OfOneAndTwoBlocks) {
  ClassifierOptions options = awkward();
  options.backbone.depth = 1;
  EXPECT_EQ(measured(options).total, 4 * kRestNumbers);
  options.backbone.depth = 2;
  EXPECT_EQ(measured(options).total, 4 * (kRestNumbers + kBlockNumbers));
}

// Dropping a branch multiplies it by a mask: the branch before it, and one number an image, twice a block.
TEST(ActivationMemory, OfDropPath) {
  ClassifierOptions options = awkward();
  options.backbone.drop_path_rate = 0.2;
  EXPECT_EQ(measured(options).block, 4 * (kBlockNumbers + 2));
}

TEST(ActivationMemory, RecomputedBlocksKeepTheirInput) {
  ClassifierOptions options = awkward();
  options.backbone.with_cp = true;
  EXPECT_EQ(measured(options).block, 4 * kTokens * kChannels);
}

TEST(ActivationMemory, LeavesGradientsAsTheyWere) {
  const c10::AutoGradMode off(false);
  EXPECT_GT(measured(awkward()).total, 0);
  EXPECT_FALSE(c10::GradMode::is_enabled());
  EXPECT_THROW(measure_activations(awkward(), 16, {at::kCPU, config::Dtype::float32}), c10::Error);
}

}  // namespace
}  // namespace vrwkv::tools

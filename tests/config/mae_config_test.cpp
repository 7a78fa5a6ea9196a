#include <gtest/gtest.h>

#include "tests/config/temporary_config.h"

namespace vrwkv::config {
namespace {

TEST(MaeConfig, IsReadWithItsTask) {
  const RunConfig config = load_text(
      "task: mae\nmodel: {variant: base, shift: single_shift}\n"
      "mae: {mask_ratio: 0.6, norm_pix_loss: true, decoder_embed_dims: 256, decoder_depth: 4, double_pos_embed: true, "
      "picture_every: 3, picture_images: 2}");
  EXPECT_EQ(config.task, TaskName::mae);
  EXPECT_EQ(config.model.backbone.shift, Shift::single_shift);
  EXPECT_EQ(config.mae, (MaeOptions{0.6, true, 256, 4, true}));
  EXPECT_EQ(config.pictures, (PictureOptions{3, 2}));
}

TEST(MaeConfig, AVariantsHeadIsTheClassifiers) {
  EXPECT_EQ(load_text("task: mae\nmodel: {variant: large}\ndata: {train_transform: {size: 384}, eval_transform: {size: "
                      "384}}")
                .model.head,
            HeadKind::linear);
  EXPECT_EQ(error_of("task: mae\nmodel: {head: mlp_tanh}"),
            "x.yaml:2: 'model.head' is set, but counts only with 'task' classification; remove this key");
}

TEST(MaeConfig, KeysOfTheOtherTaskAreRefused) {
  EXPECT_EQ(error_of("mae: {norm_pix_loss: true}"),
            "x.yaml:1: 'mae.norm_pix_loss' is set, but counts only with 'task' mae; remove this key");
  for (const char* key : {"model.num_classes=10", "train.label_smoothing=0.0", "train.loss.name=bce",
                          "data.mix.mixup_alpha=0.8", "data.mix.cutmix_alpha=1.0"}) {
    const std::string name = std::string(key).substr(0, std::string(key).find('='));
    EXPECT_EQ(error_of("task: mae", {key}),
              "command line: '" + name + "' is set, but counts only with 'task' classification; remove this key");
  }
}

TEST(MaeConfig, SomePatchesAreVisibleAndSomeAreNot) {
  EXPECT_EQ(error_of("task: mae\nmae: {mask_ratio: 0.0}"),
            "x.yaml:2: 'mae.mask_ratio' must be a number in (0, 1), got '0.0'");
  EXPECT_EQ(error_of("task: mae\ndata: {eval_transform: {size: 16}}"),
            "x.yaml:2: 'data.eval_transform.size' (16) gives 1 patches, of which 'mae.mask_ratio' (0.75) leaves 0 "
            "visible; choose both such that some are visible and some are not");
  EXPECT_EQ(error_of("task: mae\nmae: {decoder_embed_dims: 30}"),
            "x.yaml:2: mae.decoder_embed_dims must be a multiple of 4, got 30");
  EXPECT_EQ(error_of("task: mae\nmodel: {embed_dims: 30}"),
            "x.yaml:2: model: embed_dims must be a multiple of 4 with masked autoencoding, got 30");
}

}  // namespace
}  // namespace vrwkv::config

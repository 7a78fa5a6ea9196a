#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <limits>
#include <sstream>

#include "common/errors.h"
#include "tests/config/temporary_config.h"
#include "vrwkv/options.h"

namespace vrwkv {
namespace {

std::string error_of(const ClassifierOptions& options) {
  try {
    validate(options);
    return "no error";
  } catch (const UsageError& error) {
    return error.what();
  }
}

/// Parameters of a classifier with these options, counted by hand from the layer list of the paper's code.
int64_t count_parameters(const ClassifierOptions& options) {
  const VrwkvOptions& o = options.backbone;
  const int64_t c = o.embed_dims;
  const int64_t hidden = o.hidden_rate * c;
  const int64_t tokens = (o.img_size / o.patch_size) * (o.img_size / o.patch_size);
  int64_t block = 2 * 2 * c;  // ln1, ln2
  if (o.attention == Attention::bi_wkv6) {
    block += 8 * c + 5 * c * c;                          // six mixes, decay, first, five linear layers
    block += c * 5 * 32 + 5 * 32 * c + c * 64 + 64 * c;  // what mixes and decay make of the token
    block += 2 * c;                                      // ln_x
  } else {
    block += 2 * c + 3 * c + 4 * c * c;  // decay, first, three mixes, four linear layers
  }
  block += 2 * c + 2 * c * hidden + c * c;  // two mixes, key, value, receptance
  if (o.key_norm) block += 2 * c + 2 * hidden;
  if (o.init_values) block += 2 * c;
  const int64_t ends = o.in_channels * o.patch_size * o.patch_size * c + c + tokens * c + 2 * c + 2 * c;
  const int64_t head = options.head == HeadKind::linear
                           ? c * options.num_classes + options.num_classes
                           : c * 3 * c + 3 * c + 3 * c * options.num_classes + options.num_classes;
  return o.depth * block + ends + head;
}

TEST(VariantOptions, HaveThePublishedParameterCounts) {
  EXPECT_EQ(count_parameters(variant_options("tiny")), 6'155'176);
  EXPECT_EQ(count_parameters(variant_options("small")), 23'820'136);
  EXPECT_EQ(count_parameters(variant_options("base")), 93'645'544);
  EXPECT_EQ(count_parameters(variant_options("vrwkv6_tiny")), 7'641'256);
  EXPECT_EQ(count_parameters(variant_options("vrwkv6_small")), 27'677'032);
  EXPECT_EQ(count_parameters(variant_options("vrwkv6_base")), 104'898'280);
  ClassifierOptions large = variant_options("large");
  EXPECT_EQ(large.backbone.img_size, 384);
  large.backbone.img_size = 192;
  EXPECT_NEAR(static_cast<double>(count_parameters(large)), 334.9e6, 0.05e6);
}

TEST(VariantOptions, NormsAndHeads) {
  EXPECT_EQ(variant_options("tiny"), ClassifierOptions());
  const ClassifierOptions small = variant_options("small");
  EXPECT_TRUE(small.backbone.post_norm);
  EXPECT_EQ(small.backbone.init_values, 1.0);
  EXPECT_FALSE(small.backbone.key_norm);
  const ClassifierOptions base = variant_options("base");
  EXPECT_TRUE(base.backbone.post_norm);
  EXPECT_EQ(base.backbone.init_values, 1e-5);
  EXPECT_EQ(base.head, HeadKind::linear);
  const ClassifierOptions large = variant_options("large");
  EXPECT_TRUE(large.backbone.key_norm);
  EXPECT_EQ(large.backbone.depth, 24);
  EXPECT_EQ(large.backbone.linear_init, LinearInit::zero_orthogonal);
  EXPECT_EQ(large.head, HeadKind::mlp_tanh);
  for (const char* name : {"vrwkv6_small", "vrwkv6_base"}) {
    const VrwkvOptions backbone = variant_options(name).backbone;
    EXPECT_EQ(backbone.attention, Attention::bi_wkv6);
    EXPECT_TRUE(backbone.post_norm);
    EXPECT_EQ(backbone.init_values, 1e-5);
  }
  for (const char* name : {"tiny", "small", "base", "large", "vrwkv6_tiny", "vrwkv6_small", "vrwkv6_base"}) {
    EXPECT_EQ(error_of(variant_options(name)), "no error");
  }
  for (const char* name : {"", "none", "Tiny", "huge", "vrwkv6_", "vrwkv6_large"})
    EXPECT_THROW(variant_options(name), UsageError) << name;
}

TEST(ValidateOptions, RefusesWhatContradictsItself) {
  const auto with = [](auto change) {
    ClassifierOptions options;
    change(options);
    return error_of(options);
  };
  using Options = ClassifierOptions;
  EXPECT_EQ(with([](Options& o) { o.backbone.img_size = 225; }),
            "img_size must be a multiple of patch_size (16), got 225");
  EXPECT_EQ(with([](Options& o) { o.backbone.img_size = 0; }), "img_size must be >= 1, got 0");
  EXPECT_EQ(with([](Options& o) { o.backbone.patch_size = 0; }), "patch_size must be >= 1, got 0");
  EXPECT_EQ(with([](Options& o) { o.backbone.in_channels = 0; }), "in_channels must be >= 1, got 0");
  EXPECT_EQ(with([](Options& o) { o.backbone.embed_dims = 3; }), "embed_dims must be >= 4, got 3");
  EXPECT_EQ(with([](Options& o) { o.backbone.depth = 0; }), "depth must be >= 1, got 0");
  EXPECT_EQ(with([](Options& o) { o.backbone.hidden_rate = 0; }), "hidden_rate must be >= 1, got 0");
  EXPECT_EQ(with([](Options& o) { o.backbone.drop_rate = 1; }), "drop_rate must be in [0, 1), got 1");
  EXPECT_EQ(with([](Options& o) { o.backbone.drop_path_rate = -0.5; }), "drop_path_rate must be in [0, 1), got -0.5");
  EXPECT_EQ(with([](Options& o) { o.backbone.drop_path_rate = std::nan(""); }),
            "drop_path_rate must be in [0, 1), got nan");
  EXPECT_EQ(with([](Options& o) { o.backbone.init_values = -1; }), "init_values must be >= 0, or unset, got -1");
  EXPECT_EQ(with([](Options& o) { o.backbone.init_values = std::numeric_limits<double>::infinity(); }),
            "init_values must be >= 0, or unset, got inf");
  EXPECT_EQ(with([](Options& o) { o.num_classes = 0; }), "num_classes must be >= 1, got 0");
  EXPECT_EQ(with([](Options& o) { o.backbone.out_indices = {0, 12}; }),
            "out_indices must be layers from 0 to 11, got 12");
  EXPECT_EQ(with([](Options& o) { o.backbone.out_indices = {-1}; }), "out_indices must be layers from 0 to 11, got -1");
  EXPECT_EQ(with([](Options& o) { o.backbone.out_indices = {3, 3}; }),
            "out_indices must be strictly ascending (after 3), got 3");
  EXPECT_EQ(with([](Options& o) { o.backbone.out_indices = {0, 5, 11}; }), "no error");
}

TEST(ValidateOptions, RefusesWhatVrwkv6DoesNotKnow) {
  const auto error = [](const std::string& key) {
    return config::error_of("model: {variant: vrwkv6_tiny}", {"model." + key});
  };
  const auto says = [](const std::string& message, const std::string& part) {
    EXPECT_NE(message.find(part), std::string::npos) << message;
  };
  says(error("embed_dims=100"), "embed_dims must be whole heads of 64 channels with attention bi_wkv6, got 100");
  says(error("wkv=published"), "wkv must be auto or paper with attention bi_wkv6");
  says(error("init_mode=global"), "init_mode must be fancy with attention bi_wkv6, got global");
  says(error("linear_init=zero_orthogonal"), "linear_init must be trunc_normal with attention bi_wkv6");
  EXPECT_EQ(error("embed_dims=128"), "no error");
  EXPECT_EQ(config::error_of("{}", {"model.attention=bi_wkv6"}), "no error");
}

// The file's ranges and validate() state the same bounds: at the least valid value and just below, both agree.
TEST(ValidateOptions, AgreesWithTheConfigurationsRanges) {
  struct Bound {
    const char* key;
    const char* value;
    void (*set)(ClassifierOptions&);
  };
  const std::vector<Bound> bounds = {
      {"patch_size", "1", [](ClassifierOptions& o) { o.backbone.patch_size = 1; }},
      {"patch_size", "0", [](ClassifierOptions& o) { o.backbone.patch_size = 0; }},
      {"embed_dims", "4", [](ClassifierOptions& o) { o.backbone.embed_dims = 4; }},
      {"embed_dims", "3", [](ClassifierOptions& o) { o.backbone.embed_dims = 3; }},
      {"depth", "1", [](ClassifierOptions& o) { o.backbone.depth = 1; }},
      {"depth", "0", [](ClassifierOptions& o) { o.backbone.depth = 0; }},
      {"hidden_rate", "1", [](ClassifierOptions& o) { o.backbone.hidden_rate = 1; }},
      {"hidden_rate", "0", [](ClassifierOptions& o) { o.backbone.hidden_rate = 0; }},
      {"num_classes", "1", [](ClassifierOptions& o) { o.num_classes = 1; }},
      {"num_classes", "0", [](ClassifierOptions& o) { o.num_classes = 0; }},
      {"init_values", "0", [](ClassifierOptions& o) { o.backbone.init_values = 0; }},
      {"init_values", "-1e-9", [](ClassifierOptions& o) { o.backbone.init_values = -1e-9; }},
      {"drop_rate", "0.999", [](ClassifierOptions& o) { o.backbone.drop_rate = 0.999; }},
      {"drop_rate", "1", [](ClassifierOptions& o) { o.backbone.drop_rate = 1; }},
      {"drop_path_rate", "0.999", [](ClassifierOptions& o) { o.backbone.drop_path_rate = 0.999; }},
      {"drop_path_rate", "1", [](ClassifierOptions& o) { o.backbone.drop_path_rate = 1; }},
  };
  for (const Bound& bound : bounds) {
    ClassifierOptions options;
    bound.set(options);
    const std::string assignment = std::string("model.") + bound.key + "=" + bound.value;
    const bool accepted = config::error_of("{}", {assignment}) == "no error";
    EXPECT_EQ(accepted, error_of(options) == "no error") << assignment;
  }
}

}  // namespace
}  // namespace vrwkv

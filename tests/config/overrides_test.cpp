#include "config/overrides.h"

#include <gtest/gtest.h>

#include "tests/config/temporary_config.h"

namespace vrwkv::config {
namespace {

TEST(Overrides, WinOverTheFileAndTheLastOneWins) {
  const RunConfig config =
      load_text("train:\n  epochs: 5\n  optimizer: {lr: 0.1, eps: 1e-6}\n",
                {"train.epochs=7", "train.optimizer.lr=2", "train.epochs=9", "data.normalize.mean=[1, 2.5,3]",
                 "run.dtype=bfloat16", "data.train={path: a=b, format: tar}"});
  EXPECT_EQ(config.train.epochs, 9);
  EXPECT_EQ(config.train.optimizer.lr, 2.0);
  EXPECT_EQ(config.train.optimizer.eps, 1e-6);
  EXPECT_EQ(config.data.normalize.mean, (std::array<double, 3>{1, 2.5, 3}));
  EXPECT_EQ(config.run.dtype, Dtype::bfloat16);
  EXPECT_EQ(config.data.train.path, "a=b");
  EXPECT_EQ(config.data.train.format, data::DatasetFormat::tar);
}

TEST(Overrides, NullRemovesAnOptional) {
  EXPECT_EQ(load_text("model: {init_values: 0.5}").model.backbone.init_values, 0.5);
  EXPECT_EQ(load_text("model: {init_values: 0.5}", {"model.init_values=null"}).model.backbone.init_values,
            std::nullopt);
  EXPECT_EQ(load_text("model: {variant: small}", {"model.init_values=~"}).model.backbone.init_values, std::nullopt);
}

TEST(Overrides, CheckedLikeTheFile) {
  EXPECT_EQ(error_of("{}", {"train.epochs=ten"}), "command line: 'train.epochs' must be an integer >= 1, got 'ten'");
  EXPECT_EQ(error_of("{}", {"train.epoch=3"}), "command line: unknown key 'train.epoch' (did you mean 'epochs'?)");
  EXPECT_EQ(error_of("{}", {"train=3"}), "command line: 'train' must be a section of keys, got '3'");
  EXPECT_EQ(error_of("{}", {"train.epochs.x=3"}),
            "command line: 'train.epochs' must be an integer >= 1, got a mapping");
  EXPECT_EQ(error_of("{}", {"train.batch_size=10", "train.grad_accumulation=3"}),
            "command line: 'train.grad_accumulation' (3) must divide 'train.batch_size' (10)");
}

TEST(Overrides, MalformedOnesNameThemselves) {
  const std::string form = " must have the form key.path=value, such as train.epochs=3";
  EXPECT_EQ(error_of("{}", {"train.epochs"}), "command line: 'train.epochs'" + form);
  EXPECT_EQ(error_of("{}", {""}), "command line: ''" + form);
  EXPECT_EQ(error_of("{}", {"=3"}), "command line: '=3'" + form + "; '' is not a key");
  EXPECT_EQ(error_of("{}", {"train..epochs=3"}),
            "command line: 'train..epochs=3'" + form + "; 'train..epochs' is not a key");
  EXPECT_EQ(error_of("{}", {"train.=3"}), "command line: 'train.=3'" + form + "; 'train.' is not a key");
  EXPECT_EQ(error_of("{}", {"--train.epochs=3"}),
            "command line: '--train.epochs=3'" + form + "; '--train.epochs' is not a key");
  for (const char* text : {"train.epochs=", "train.epochs= "}) {
    EXPECT_EQ(error_of("{}", {text}),
              std::string("command line: '") + text +
                  "' has no value; write key=null to remove an optional value, or key='\"\"' for an "
                  "empty string");
  }
  const std::string syntax = error_of("{}", {"data.normalize.mean=[1,2"});
  EXPECT_EQ(syntax.substr(0, 32), "command line: YAML syntax error:");
  EXPECT_NE(syntax.find("in 'data.normalize.mean=[1,2'"), std::string::npos) << syntax;
  EXPECT_EQ(error_of("train: {epochs: 3}", {"train=null"}),
            "command line: 'train=null' would remove a section; name one key of it");
  EXPECT_EQ(error_of("{}", {"base=other.yaml"}),
            "command line: 'base=other.yaml' is not possible: 'base' can only stand in a configuration file");
  std::string deep = "a";
  for (int i = 0; i < 50'000; ++i) deep += ".a";
  EXPECT_NE(error_of("{}", {deep + "=1"}).find("is not a key"), std::string::npos);
}

}  // namespace
}  // namespace vrwkv::config

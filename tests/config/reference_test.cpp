#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "config/run_config.h"

namespace vrwkv::config {
namespace {

TEST(ConfigReference, DocsAreUpToDate) {
  std::ifstream stream(VRWKV_SOURCE_DIR "/docs/config.md", std::ios::binary);
  ASSERT_TRUE(stream.is_open()) << "docs/config.md is missing";
  std::ostringstream text;
  text << stream.rdbuf();
  EXPECT_TRUE(text.str() == config_reference_markdown())
      << "docs/config.md differs from the program's list of keys. To write it anew, build vrwkv-config-reference and "
         "run, "
         "in the repository's root: BUILD_FOLDER/bin/vrwkv-config-reference > docs/config.md";
}

TEST(ConfigReference, HoldsKeyTypeDefaultAndMeaning) {
  const std::string text = config_reference_markdown();
  for (const char* row :
       {"| `train.epochs` | an integer >= 1 | `300` | ",
        "| `model.init_values` | a number >= 0, or null for none | `null` | ",
        "| `run.dtype` | `float64`, `float32`, `bfloat16`, `float16` | `float32` | ",
        "| `data.normalize.std` | a list of 3 numbers > 0 | `[58.395, 57.12, 57.375]` | ",
        "| `run.output_dir` | a string | `runs/{name}` | ", "| `model.post_norm` | true or false | `false` | "}) {
    EXPECT_NE(text.find(row), std::string::npos) << row;
  }
}

}  // namespace
}  // namespace vrwkv::config

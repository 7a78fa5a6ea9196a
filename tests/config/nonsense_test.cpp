#include <gtest/gtest.h>

#include <array>
#include <fstream>
#include <random>
#include <sstream>

#include "tests/config/temporary_config.h"

namespace vrwkv::config {
namespace {

/// Loading may succeed or throw UsageError; TemporaryConfigs::error lets every other exception through. Returns
/// success.
bool survives(const TemporaryConfigs& configs, const std::string& text,
              const std::vector<std::string>& overrides = {}) {
  configs.write("x.yaml", text);
  const std::string message = configs.error("x.yaml", overrides);
  EXPECT_FALSE(message.empty());
  return message == "no error";
}

class Mutator {
 public:
  explicit Mutator(unsigned seed) : random_(seed) {}

  std::size_t below(std::size_t bound) { return std::uniform_int_distribution<std::size_t>(0, bound - 1)(random_); }

  std::string bytes(std::size_t most, unsigned char low, unsigned char high) {
    std::string text(below(most) + 1, ' ');
    for (char& c : text) c = static_cast<char>(low + below(static_cast<std::size_t>(high - low) + 1));
    return text;
  }

  std::string token() {
    static constexpr std::array<const char*, 40> kTokens = {"[",
                                                            "]",
                                                            "{",
                                                            "}",
                                                            ": ",
                                                            ":",
                                                            "- ",
                                                            "-",
                                                            ", ",
                                                            "? ",
                                                            "&a ",
                                                            "*a",
                                                            "!!int ",
                                                            "!<x> ",
                                                            "!",
                                                            "|\n",
                                                            ">-\n",
                                                            "%",
                                                            "%YAML 1.2\n",
                                                            "%TAG ! x\n",
                                                            "---\n",
                                                            "...\n",
                                                            "#",
                                                            "\"",
                                                            "'",
                                                            "\\",
                                                            "<<: ",
                                                            "~",
                                                            "\n",
                                                            "\n  ",
                                                            "\t",
                                                            "\r",
                                                            "base: x.yaml\n",
                                                            "null",
                                                            "1e999",
                                                            "-1",
                                                            ".nan",
                                                            "true",
                                                            "\"\\x00\"",
                                                            "\"\\U0010ffff\""};
    return kTokens[below(kTokens.size())];
  }

  std::string mutated(std::string text) {
    for (std::size_t changes = below(4) + 1; changes > 0 && !text.empty(); --changes) {
      const std::size_t at = below(text.size());
      const std::size_t length = below(20);
      switch (below(6)) {
        case 0:
          text.insert(at, token());
          break;
        case 1:
          text.erase(at, length);
          break;
        case 2:
          text.insert(below(text.size()), text.substr(at, length));
          break;
        case 3:
          text[at] = bytes(1, 0x20, 0x7E)[0];
          break;
        case 4:
          text[at] = bytes(1, 0x00, 0xFF)[0];
          break;
        default:
          text.resize(at);
      }
    }
    return text;
  }

 private:
  std::mt19937 random_;
};

std::string valid_text() {
  std::ifstream stream(VRWKV_SOURCE_DIR "/configs/digits_vrwkv_micro.yaml");
  std::ostringstream text;
  text << stream.rdbuf();
  return text.str();
}

TEST(Nonsense, RandomBytesAreRefusedOrRead) {
  const TemporaryConfigs configs;
  Mutator random(1);
  for (int i = 0; i < 1000; ++i) {
    survives(configs, random.bytes(200, 0x00, 0xFF));
    survives(configs, random.bytes(200, 0x20, 0x7E));
    std::string tokens;
    for (std::size_t n = random.below(30); n > 0; --n) tokens += random.token();
    survives(configs, tokens);
  }
}

TEST(Nonsense, MutationsOfAValidFileAreRefusedOrRead) {
  const TemporaryConfigs configs;
  Mutator random(2);
  const std::string valid = valid_text();
  ASSERT_TRUE(survives(configs, valid));
  int read = 0;
  constexpr int kTimes = 3000;
  for (int i = 0; i < kTimes; ++i) read += survives(configs, random.mutated(valid)) ? 1 : 0;
  // Both outcomes occur: otherwise the mutations test nothing.
  EXPECT_GT(read, kTimes / 100);
  EXPECT_LT(read, kTimes * 9 / 10);
}

TEST(Nonsense, OverridesAreRefusedOrRead) {
  const TemporaryConfigs configs;
  Mutator random(3);
  for (int i = 0; i < 1500; ++i) {
    survives(configs, "{}", {random.mutated("data.normalize.mean=[1, 2, 3]")});
    survives(configs, "{}", {"train.epochs=" + random.token() + random.token()});
    survives(configs, "{}", {random.bytes(40, 0x00, 0xFF)});
  }
}

}  // namespace
}  // namespace vrwkv::config

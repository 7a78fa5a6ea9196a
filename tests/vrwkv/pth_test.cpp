#include "vrwkv/checkpoint/pth.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <fstream>
#include <random>
#include <sstream>

#include "tests/support/golden.h"
#include "vrwkv/checkpoint/pth_writer.h"
#include "vrwkv/checkpoint/weights.h"

namespace vrwkv::testing {
namespace {

namespace fs = std::filesystem;

std::string bytes_of(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream content;
  content << file.rdbuf();
  return content.str();
}

class PthTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(::testing::TempDir()) /
              ("pth_" + std::string(::testing::UnitTest::GetInstance()->current_test_info()->name()));
    fs::remove_all(folder_);
    fs::create_directories(folder_);
    path_ = folder_ / "weights.pth";
  }
  void TearDown() override { fs::remove_all(folder_); }

  void write(const std::string& bytes) const { std::ofstream(path_, std::ios::binary) << bytes; }

  std::string error() const {
    try {
      read_pth(path_);
    } catch (const std::runtime_error& caught) {
      return caught.what();
    }
    return "no error";
  }

  void expect_error(const std::string& text) const {
    const std::string message = error();
    EXPECT_NE(message.find(text), std::string::npos) << "'" << text << "' not in: " << message;
    EXPECT_NE(message.find(path_.string()), std::string::npos) << message;
  }

  fs::path folder_, path_;
};

// Laid out as the published checkpoints are: {'meta', 'state_dict', 'optimizer'}.
TEST_F(PthTest, ReadsThePublishedLayoutToTheBit) {
  for (const std::string name : {"vrwkv_pre", "vrwkv_post", "vrwkv_l_like"}) {
    SCOPED_TRACE(name);
    const Safetensors golden = read_golden(name + ".safetensors");
    const ModelWeights weights = read_model_weights(golden_path(name + ".pth"));
    size_t count = 0;
    for (const auto& [key, tensor] : golden.tensors) {
      if (!key.starts_with("state.")) continue;
      ++count;
      ASSERT_TRUE(weights.tensors.contains(key.substr(6))) << key;
      EXPECT_TRUE(at::equal(weights.tensors.at(key.substr(6)), tensor)) << key;
    }
    EXPECT_EQ(weights.tensors.size(), count);
  }
}

TEST_F(PthTest, ReadsBackWhatItWrites) {
  at::manual_seed(1);
  const at::Tensor base = at::randn({6, 7});
  const std::map<std::string, at::Tensor> tensors{
      {"float", base},
      {"double", base.to(at::kDouble)},
      {"half", base.to(at::kHalf)},
      {"bfloat16", base.to(at::kBFloat16)},
      {"long", at::arange(5)},
      {"int", at::arange(5, at::kInt)},
      {"byte", at::arange(5, at::kByte)},
      {"bool", at::arange(5) > 2},
      {"scalar", at::scalar_tensor(2.5)},
      {"empty", at::empty({3, 0, 2})},
      {"transposed", base.t()},
      {"part", base.slice(1, 2, 5)},
      {"name with \"quotes\" and \u00e9", base[0]},
      {std::string(300, 'x'), base[1]},
  };
  write_pth(path_, tensors, {{"config", "model: {}\n"}});
  const auto [read, metadata] = read_pth(path_);
  EXPECT_EQ(metadata, (std::map<std::string, std::string>{{"config", "model: {}\n"}}));
  ASSERT_EQ(read.size(), tensors.size());
  for (const auto& [name, tensor] : tensors) {
    SCOPED_TRACE(name);
    EXPECT_EQ(read.at(name).scalar_type(), tensor.scalar_type());
    EXPECT_EQ(read.at(name).sizes(), tensor.sizes());
    EXPECT_TRUE(at::equal(read.at(name), tensor));
  }
}

TEST_F(PthTest, ChangingATensorLeavesTheFile) {
  write_pth(path_, {{"a", at::ones({1000})}}, {});
  read_pth(path_).tensors.at("a").fill_(7);
  EXPECT_TRUE(at::equal(read_pth(path_).tensors.at("a"), at::ones({1000})));
}

TEST_F(PthTest, SaysWhatToDoWithOtherFormats) {
  std::string tar(512, '\0');
  tar.replace(257, 5, "ustar");
  for (const auto& bytes : {std::string("\x80\x02\x8A\nl\xFC\x9C", 7), tar}) {
    write(bytes);
    EXPECT_TRUE(looks_like_pth(path_));
    expect_error("torch.save(torch.load(");
  }
  write(std::string("PK\x03\x04\0\0\x08\x08\0\0\0\0", 12));
  expect_error("damaged archive");
}

// A file cut short anywhere, or with bytes changed anywhere, is read or refused; it never crashes or hangs.
TEST_F(PthTest, SurvivesDamage) {
  at::manual_seed(2);
  write_pth(path_, {{"a.weight", at::randn({3, 4})}, {"b", at::arange(7)}, {"c", at::ones({2}, at::kHalf)}},
            {{"config", "x"}});
  const std::string whole = bytes_of(path_);
  std::mt19937 random(3);
  for (int round = 0; round < 600; ++round) {
    std::string damaged = whole;
    if (round % 3 == 0) {
      damaged.resize(random() % whole.size());
    } else {
      const int changes = 1 + static_cast<int>(random() % 4);
      for (int i = 0; i < changes; ++i) damaged[random() % whole.size()] = static_cast<char>(random());
    }
    write(damaged);
    try {
      for (const auto& [name, tensor] : read_pth(path_).tensors) tensor.sum().item<double>();
    } catch (const std::runtime_error& refused) {
      EXPECT_NE(std::string(refused.what()).find(path_.string()), std::string::npos) << refused.what();
    }
  }
}

// Nothing is allocated for what an entry only claims to hold.
TEST_F(PthTest, RefusesSizesThatCannotBe) {
  write_pth(path_, {{"a", at::ones({2})}}, {});
  std::string bytes = bytes_of(path_);
  const size_t entry = bytes.rfind("PK\x01\x02");
  ASSERT_NE(entry, std::string::npos);
  bytes.replace(entry + 24, 4, "\xff\xff\xff\x7f");
  write(bytes);
  expect_error("claims 2147483647 bytes");
}

TEST_F(PthTest, NamesTheWeightsThatAreMissing) {
  write_pth(path_, {}, {{"config", "x"}});
  expect_error(
      "no weights found; expected a dict of tensors itself, or one under 'state_dict', 'model', got a dict with "
      "the keys 'meta', 'state_dict'");
  EXPECT_THROW(read_pth(golden_path("vrwkv_pre.pth"), WeightSet::ema), std::runtime_error);
}

}  // namespace
}  // namespace vrwkv::testing

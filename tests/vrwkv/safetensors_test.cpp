#include "vrwkv/checkpoint/safetensors.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <random>
#include <sstream>

#include "tests/support/devices.h"
#include "tests/support/golden.h"

namespace vrwkv::testing {
namespace {

namespace fs = std::filesystem;

std::string read_bytes(const fs::path& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

void write_bytes(const fs::path& path, const std::string& bytes) { std::ofstream(path, std::ios::binary) << bytes; }

/// A file of the format from a header as it should be written, and data.
std::string with_header(const std::string& header, const std::string& data = "") {
  const uint64_t length = header.size();
  std::string bytes(sizeof(length), '\0');
  std::memcpy(bytes.data(), &length, sizeof(length));
  return bytes + header + data;
}

std::string message_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const std::runtime_error& error) {
    return error.what();
  }
  return "";
}

/// The same bytes, shape and dtype, NaNs included.
bool identical(const at::Tensor& a, const at::Tensor& b) {
  if (a.scalar_type() != b.scalar_type() || a.sizes() != b.sizes()) return false;
  const at::Tensor x = a.cpu().contiguous(), y = b.cpu().contiguous();
  return x.nbytes() == 0 || std::memcmp(x.const_data_ptr(), y.const_data_ptr(), x.nbytes()) == 0;
}

constexpr std::array kAllDtypes{at::kDouble,      at::kFloat,         at::kHalf,  at::kBFloat16, at::kComplexFloat,
                                at::kLong,        at::kInt,           at::kShort, at::kChar,     at::kUInt64,
                                at::kUInt32,      at::kUInt16,        at::kByte,  at::kBool,     at::kFloat8_e4m3fn,
                                at::kFloat8_e5m2, at::kFloat8_e8m0fnu};

class SafetensorsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string name = ::testing::UnitTest::GetInstance()->current_test_info()->name();
    folder_ = fs::temp_directory_path() / ("vrwkv-safetensors-" + name + "-" + std::to_string(::getpid()));
    fs::create_directories(folder_);
    path_ = folder_ / "file.safetensors";
  }
  void TearDown() override { fs::remove_all(folder_); }

  /// The error of reading `bytes`; empty when they are read.
  std::string error_of(const std::string& bytes) {
    write_bytes(path_, bytes);
    return message_of([&] { read_safetensors(path_); });
  }

  at::Tensor random_tensor(at::ScalarType dtype) {
    std::vector<int64_t> shape(random_() % 5);
    for (auto& side : shape) side = static_cast<int64_t>(random_() % 5);
    const int64_t size = c10::multiply_integers(shape) * static_cast<int64_t>(c10::elementSize(dtype));
    const at::Tensor bytes = at::empty({size}, at::kByte);
    const uint64_t values = dtype == at::kBool ? 2 : 256;
    for (int64_t i = 0; i < size; ++i) bytes.data_ptr<uint8_t>()[i] = static_cast<uint8_t>(random_() % values);
    return bytes.view(dtype).reshape(shape);
  }

  fs::path folder_, path_;
  std::mt19937_64 random_{20240229};
};

// The expected values were computed with numpy from the files' bytes.
TEST_F(SafetensorsTest, ReadsFilesOfThePythonLibrary) {
  const auto model = read_golden("vrwkv_pre.safetensors");
  EXPECT_EQ(model.tensors.size(), 131U);
  EXPECT_TRUE(model.metadata.contains("config"));
  const at::Tensor logits = model.tensors.at("logits");
  EXPECT_EQ(logits.scalar_type(), at::kDouble);
  EXPECT_EQ(logits.sizes(), (std::vector<int64_t>{2, 10}));
  EXPECT_NEAR(logits.sum().item<double>(), 1.55296632312698, 1e-14);
  const at::Tensor target = model.tensors.at("target");
  EXPECT_EQ(target.scalar_type(), at::kLong);
  EXPECT_TRUE(at::equal(target, at::tensor({9, 5}, at::kLong)));
  EXPECT_NEAR(model.tensors.at("input").to(at::kDouble).sum().item<double>(), 25.44375551235862, 1e-9);
  EXPECT_NEAR(model.tensors.at("input")[0][0][0][1].item<double>(), -0.9399195, 1e-7);
  EXPECT_EQ(model.tensors.at("loss").dim(), 0);
  EXPECT_DOUBLE_EQ(model.tensors.at("loss").item<double>(), 2.317650306430531);

  const auto crops = read_golden("eval_crop224.safetensors");
  EXPECT_EQ(crops.tensors.size(), 4U);
  const at::Tensor swab = crops.tensors.at("n04367480_swab.JPEG");
  EXPECT_EQ(swab.scalar_type(), at::kByte);
  EXPECT_EQ(swab.sizes(), (std::vector<int64_t>{224, 224, 3}));
  EXPECT_EQ(swab.to(at::kLong).sum().item<int64_t>(), 18856175);
  EXPECT_EQ(swab[223][223][2].item<int64_t>(), 187);
}

TEST_F(SafetensorsTest, RoundTripsEveryDtypeAndShape) {
  for (int round = 0; round < 30; ++round) {
    std::map<std::string, at::Tensor> tensors;
    for (const auto dtype : kAllDtypes) {
      for (uint64_t i = 0; i < random_() % 4; ++i) {
        tensors.emplace(std::string(c10::toString(dtype)) + "." + std::to_string(i), random_tensor(dtype));
      }
    }
    const std::map<std::string, std::string> metadata{{"round", std::to_string(round)},
                                                      {"text", "\"\\\n\t\x01 \xC3\xA9"}};
    write_safetensors(path_, tensors, metadata);
    const auto back = read_safetensors(path_);
    EXPECT_EQ(back.metadata, metadata);
    ASSERT_EQ(back.tensors.size(), tensors.size());
    for (const auto& [name, tensor] : tensors) {
      EXPECT_TRUE(identical(tensor, back.tensors.at(name))) << name << tensor.sizes();
      const auto address = reinterpret_cast<uintptr_t>(back.tensors.at(name).const_data_ptr());
      EXPECT_EQ(tensor.numel() == 0 ? 0 : address % tensor.itemsize(), 0U) << name;
    }
  }
}

TEST_F(SafetensorsTest, RoundTripsNothing) {
  write_safetensors(path_, {});
  const auto back = read_safetensors(path_);
  EXPECT_TRUE(back.tensors.empty() && back.metadata.empty());
}

TEST_F(SafetensorsTest, WritesTheSameBytesEachTimeWithAlignedData) {
  const std::map<std::string, at::Tensor> tensors{{"a", at::ones({3}, at::kBool)}, {"b", at::ones({3}, at::kDouble)}};
  write_safetensors(path_, tensors, {{"k", "v"}});
  write_safetensors(folder_ / "again", tensors, {{"k", "v"}});
  const std::string bytes = read_bytes(path_);
  EXPECT_EQ(bytes, read_bytes(folder_ / "again"));
  EXPECT_EQ(static_cast<unsigned char>(bytes[0]) % 8, 0);
  // 24 bytes of doubles, then the three booleans, in spite of their names.
  EXPECT_EQ(bytes.substr(bytes.size() - 5), std::string("\xF0\x3F\x01\x01\x01"));
}

TEST_F(SafetensorsTest, WritesStridedExpandedAndNegatedTensors) {
  const at::Tensor base = at::arange(24, at::kFloat).reshape({4, 6});
  const at::Tensor complex = at::complex(base, base + 1).conj();
  const std::map<std::string, at::Tensor> tensors{{"transposed", base.t()},
                                                  {"sliced", base.slice(1, 1, 6, 2)},
                                                  {"expanded", base[0].expand({3, 6})},
                                                  {"conjugate", complex},
                                                  {"negative", at::imag(complex)}};
  ASSERT_TRUE(tensors.at("negative").is_neg());
  write_safetensors(path_, tensors);
  const auto back = read_safetensors(path_).tensors;
  for (const auto& [name, tensor] : tensors) EXPECT_TRUE(at::equal(tensor, back.at(name))) << name;
}

TEST_F(SafetensorsTest, WritesTensorsOfEveryDevice) {
  for (const at::Device device : devices()) {
    const at::Tensor tensor = at::arange(6, at::TensorOptions(device).dtype(at::kFloat)).reshape({2, 3}).t();
    write_safetensors(path_, {{"x", tensor}});
    EXPECT_TRUE(at::equal(read_safetensors(path_).tensors.at("x"), tensor.cpu())) << device;
  }
}

TEST_F(SafetensorsTest, TensorsAreViewsThatOutliveTheFileAndNeverChangeIt) {
  write_safetensors(path_, {{"x", at::arange(5, at::kFloat)}, {"y", at::arange(5, at::kDouble)}});
  const std::string before = read_bytes(path_);
  at::Tensor x = read_safetensors(path_).tensors.at("x");
  x.mul_(2);
  EXPECT_EQ(read_bytes(path_), before);
  EXPECT_TRUE(at::equal(read_safetensors(path_).tensors.at("x"), at::arange(5, at::kFloat)));
  fs::remove(path_);
  EXPECT_TRUE(at::equal(x, at::arange(0, 10, 2, at::kFloat)));
}

TEST_F(SafetensorsTest, CopiesDataThatIsNotAligned) {
  const std::string header =
      R"({"b":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},"f":{"dtype":"F32","shape":[2],"data_offsets":[3,11]}})";
  const std::array<float, 2> values{1.5F, -2.25F};
  std::string data("\x01\x02\x03");
  data.append(reinterpret_cast<const char*>(values.data()), sizeof(values));
  ASSERT_EQ(error_of(with_header(header, data)), "");
  const at::Tensor f = read_safetensors(path_).tensors.at("f");
  EXPECT_EQ(reinterpret_cast<uintptr_t>(f.const_data_ptr()) % 4, 0U);
  EXPECT_TRUE(at::equal(f, at::tensor({1.5F, -2.25F})));
}

struct Malformed {
  const char* header;
  size_t data;  ///< Bytes that follow.
  const char* expected;
};

TEST_F(SafetensorsTest, NamesWhatIsWrongInAHeader) {
  const std::vector<Malformed> cases{
      {"", 0, "no valid JSON"},
      {"[]", 0, "must be a JSON object"},
      {R"({"a":)", 0, "no valid JSON at byte"},
      {R"({"a":1e999})", 0, "no valid JSON"},
      {"{} {}", 0, "no valid JSON"},
      {"{\"\xFF\":1}", 0, "no valid JSON"},
      {R"({"a":{"dtype":"U8","shape":[[[[1]]]],"data_offsets":[0,1]}})", 1, "nested deeper"},
      {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
       1, "names 'a' twice"},
      {R"({"a":{"dtype":"U8","dtype":"I8","shape":[1],"data_offsets":[0,1]}})", 1, "names 'dtype' twice"},
      {R"({"__metadata__":{"x":"1","x":"2"}})", 0, "names 'x' twice"},
      {R"({"__metadata__":[]})", 0, "__metadata__ must be an object"},
      {R"({"__metadata__":{"step":1}})", 0, "'step' must be a string"},
      {R"({"a":1})", 0, "tensor 'a' must have a dtype"},
      {R"({"a":{"dtype":"U8","shape":[1]}})", 1, "tensor 'a' must have a dtype"},
      {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0]}})", 1, "two data_offsets"},
      {R"({"a":{"dtype":"F31","shape":[1],"data_offsets":[0,1]}})", 1, "unknown dtype 'F31'"},
      {R"({"a":{"dtype":"U8","shape":[-1],"data_offsets":[0,1]}})", 1, "shape must be non-negative integers, got -1"},
      {R"({"a":{"dtype":"U8","shape":[1.0],"data_offsets":[0,1]}})", 1, "shape must be non-negative integers"},
      {R"({"a":{"dtype":"U8","shape":["1"],"data_offsets":[0,1]}})", 1, "shape must be non-negative integers"},
      {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,-1]}})", 1, "data_offsets must be non-negative"},
      {R"({"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,20]}})", 20,
       "[2,3] needs 24 bytes, its data_offsets are [0,20]"},
      {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[1,0]}})", 1, "needs 1 bytes, its data_offsets are [1,0]"},
      {R"({"a":{"dtype":"F64","shape":[4294967296,4294967296],"data_offsets":[0,0]}})", 0, "needs too many bytes"},
      {R"({"a":{"dtype":"U8","shape":[18446744073709551615],"data_offsets":[0,1]}})", 1, "needs too many bytes"},
      {R"({"a":{"dtype":"U8","shape":[0,9223372036854775807,9223372036854775807],"data_offsets":[0,0]}})", 0,
       "needs too many bytes"},
      {R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", 3,
       "truncated: tensor 'a' ends at byte 4 of the data, the file has 3"},
      {R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", 5, "describes 4 bytes of data, the file has 5"},
      {R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})",
       3, "tensor 'b' must begin at byte 2 of the data, but begins at 1"},
      {R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[3,5]}})",
       5, "tensor 'b' must begin at byte 2 of the data, but begins at 3"}};
  for (const auto& [header, data, expected] : cases) {
    const std::string error = error_of(with_header(header, std::string(data, '\0')));
    EXPECT_NE(error.find(expected), std::string::npos) << header << "\ngave: " << error;
    EXPECT_NE(error.find(path_.string()), std::string::npos) << header << "\ngave: " << error;
  }
  std::string many = "1";
  for (int i = 0; i < 64; ++i) many += ",1";
  EXPECT_NE(error_of(with_header(R"({"a":{"dtype":"U8","shape":[)" + many + R"(],"data_offsets":[0,1]}})", "x"))
                .find("65 dimensions, at most 64"),
            std::string::npos);
  EXPECT_NE(error_of(with_header(std::string(1 << 20, '['))).find("nested deeper"), std::string::npos);
}

TEST_F(SafetensorsTest, NamesWhatIsWrongWithAFile) {
  EXPECT_NE(error_of("").find("0 bytes, at least 8 expected"), std::string::npos);
  EXPECT_NE(error_of("1234567").find("7 bytes, at least 8 expected"), std::string::npos);
  EXPECT_NE(error_of("\x89PNG\r\n\x1A\n" + std::string(100, 'x')).find("not a safetensors file"), std::string::npos);
  EXPECT_NE(error_of(std::string("\x40\0\0\0\0\0\0\0{}", 10))
                .find("truncated: 8 + 64 bytes of header expected, the file has 10"),
            std::string::npos);
  fs::remove(path_);
  EXPECT_EQ(message_of([&] { read_safetensors(path_); }),
            "cannot open " + path_.string() + ": No such file or directory");
  EXPECT_EQ(message_of([&] { read_safetensors(folder_); }), folder_.string() + ": not a regular file");
}

TEST_F(SafetensorsTest, RefusesWhatTheFormatCannotHoldAndKeepsTheFormerFile) {
  write_safetensors(path_, {{"x", at::ones({2})}});
  const std::string before = read_bytes(path_);
  const at::Tensor ones = at::ones({2, 2});
  const std::vector<std::pair<std::map<std::string, at::Tensor>, const char*>> cases{
      {{{"t", ones.to(at::kComplexDouble)}}, "'t' has dtype ComplexDouble"},
      {{{"t", ones.to_sparse()}}, "'t' is not dense"},
      {{{"t", at::empty({2}, at::TensorOptions(at::kMeta))}}, "'t' is not dense, or has no data"},
      {{{"t", at::Tensor()}}, "'t' is undefined"},
      {{{"__metadata__", ones}}, "a name that the format keeps"},
      {{{"caf\xE9", ones}}, "not UTF-8"}};
  for (const auto& [tensors, expected] : cases) {
    const std::string error = message_of([&] { write_safetensors(path_, tensors); });
    EXPECT_NE(error.find(expected), std::string::npos) << expected << "\ngave: " << error;
    EXPECT_TRUE(error.starts_with("cannot write " + path_.string())) << error;
  }
  EXPECT_EQ(read_bytes(path_), before);
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_), {}), 1);  // No temporary is left.
  const std::string error = message_of([&] { write_safetensors(folder_ / "absent" / "x", {}); });
  EXPECT_NE(error.find("absent/x.tmp: No such file or directory"), std::string::npos) << error;
}

TEST_F(SafetensorsTest, ReplacesBytesOfMetadataThatAreNotUtf8) {
  write_safetensors(path_, {}, {{"path", "caf\xE9!"}});
  EXPECT_EQ(read_safetensors(path_).metadata.at("path"), "caf\xEF\xBF\xBD!");
}

/// Every damage to a small file gives its tensors or a std::runtime_error, and each read touches all bytes: run it with
/// the sanitizers too.
TEST_F(SafetensorsTest, SurvivesRandomDamage) {
  write_safetensors(path_,
                    {{"a", at::arange(6, at::kFloat).reshape({2, 3})},
                     {"b", at::ones({}, at::kLong)},
                     {"c", at::ones({0, 4}, at::kHalf)},
                     {"d", at::ones({3}, at::kBool)}},
                    {{"classes", "[\"x\"]"}});
  const std::string whole = read_bytes(path_);
  const size_t header_end = whole.rfind('}') + 1;
  int refused = 0, accepted = 0;
  for (int round = 0; round < 6000; ++round) {
    std::string damaged = whole;
    const auto changes = 1 + random_() % 3;
    for (uint64_t i = 0; i < changes; ++i) {
      // Mostly in the header, where damage is interesting: single bits, any byte, or one digit for another.
      const size_t place = random_() % (random_() % 8 == 0 ? damaged.size() : header_end);
      char& byte = damaged[place];
      const bool digit = byte >= '0' && byte <= '9';
      byte = static_cast<char>(digit                ? '0' + random_() % 10
                               : random_() % 2 == 0 ? random_() % 256
                                                    : byte ^ (1U << random_() % 8));
    }
    if (random_() % 10 == 0) damaged.resize(random_() % damaged.size());
    if (random_() % 20 == 0) damaged.append(random_() % 9, '\0');
    write_bytes(path_, damaged);
    try {
      for (const auto& [name, tensor] : read_safetensors(path_).tensors) {
        const at::Tensor copy = tensor.clone();
        ASSERT_EQ(copy.numel(), tensor.numel());
      }
      ++accepted;
    } catch (const std::runtime_error& error) {
      ASSERT_TRUE(std::string(error.what()).starts_with(path_.string())) << error.what();
      ++refused;
    }
  }
  EXPECT_GT(refused, 3000);
  EXPECT_GT(accepted, 100);  // Damage to values and names cannot be seen here; checkpoints have checksums for that.
}

TEST_F(SafetensorsTest, RefusesEveryTruncation) {
  write_safetensors(path_, {{"a", at::arange(6, at::kFloat)}});
  const std::string whole = read_bytes(path_);
  for (size_t size = 0; size < whole.size(); ++size) {
    const std::string error = error_of(whole.substr(0, size));
    EXPECT_TRUE(error.find("expected") != std::string::npos || error.find("truncated") != std::string::npos)
        << size << " of " << whole.size() << ": " << error;
  }
}

}  // namespace
}  // namespace vrwkv::testing

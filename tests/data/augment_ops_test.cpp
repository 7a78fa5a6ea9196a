#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <limits>
#include <map>
#include <set>
#include <string>

#include "data/augment/named.h"
#include "data/augment/operations.h"
#include "tests/data/test_data.h"
#include "tests/support/golden.h"
#include "vrwkv/checkpoint/safetensors.h"

namespace vrwkv::data::augment {
namespace {

using testing::max_difference;
using testing::message_of;
using testing::random_image;

/// The operations by their names.
std::map<std::string, at::Tensor (*)(const at::Tensor&, double)> operations() {
  std::map<std::string, at::Tensor (*)(const at::Tensor&, double)> all;
  for (const NamedOperation& operation : named_operations()) all.emplace(operation.name, operation.apply);
  return all;
}

// A photo and what Pillow made of it.
TEST(AugmentOperations, ArePillowsOnThePhoto) {
  const Safetensors golden = vrwkv::testing::read_golden("randaugment_ops.safetensors");
  const at::Tensor source = golden.tensors.at("source");
  int64_t compared = 0;
  for (const auto& [name, expected] : golden.tensors) {
    if (name == "source") continue;
    const size_t end = name.find_last_of("abcdefghijklmnopqrstuvwxyz") + 1;  // rotate_27, solarize_add_99, invert
    const double argument = end < name.size() ? std::stod(name.substr(end + 1)) : 0.0;
    EXPECT_EQ(max_difference(operations().at(name.substr(0, end))(source, argument), expected), 0) << name;
    ++compared;
  }
  EXPECT_EQ(compared, 15);
}

// Noise, a narrow range of levels, one row, and one odd pixel on a plain ground; see make_augment_fixture.py.
TEST(AugmentOperations, ArePillowsOnAwkwardImages) {
  const Safetensors golden = read_safetensors(testing::fixture("augment_ops.safetensors"));
  std::set<std::string> compared;
  for (const auto& [key, expected] : golden.tensors) {
    const size_t first = key.find('/'), second = key.rfind('/');
    const std::string name = key.substr(first + 1, second - first - 1);
    if (name == "source") continue;
    const at::Tensor source = golden.tensors.at(key.substr(0, first) + "/source/0");
    const at::Tensor before = source.clone();
    const at::Tensor result = operations().at(name)(source, std::stod(key.substr(second + 1)));
    ASSERT_EQ(result.sizes(), expected.sizes()) << key;
    EXPECT_EQ(max_difference(result, expected), 0) << key;
    EXPECT_TRUE(source.equal(before)) << key;
    compared.insert(name);
  }
  EXPECT_EQ(compared.size(), operations().size());
}

TEST(AugmentOperations, ArgumentsWithoutEffectChangeNothing) {
  const at::Tensor image = random_image(13, 29, 5);
  const std::map<std::string, double> neutral{
      {"posterize", 8},  {"solarize", 256},      {"solarize_add", 0},   {"color", 1},    {"contrast", 1},
      {"brightness", 1}, {"sharpness", 1},       {"gaussian_blur", 0},  {"rotate", 360}, {"shear_x", 0},
      {"shear_y", 0},    {"translate_x_rel", 0}, {"translate_y_rel", 0}};
  for (const auto& [name, argument] : neutral) {
    EXPECT_EQ(max_difference(operations().at(name)(image, argument), image), 0) << name;
  }
  // Pillow refuses 0 bits; here they give black.
  EXPECT_EQ(posterize(image, 0).max().item<int64_t>(), 0);
}

TEST(AugmentOperations, RefuseWhatIsNoImage) {
  const at::Tensor image = random_image(6, 5, 1);
  for (const auto& [name, operation] : operations()) {
    for (const at::Tensor& wrong : {image.to(at::kFloat), image.narrow(2, 0, 2).contiguous(), image[0],
                                    image.transpose(0, 1), image.narrow(0, 0, 0).contiguous()}) {
      const std::string message = message_of<std::invalid_argument>([&] { operation(wrong, 1); });
      EXPECT_EQ(message.substr(0, name.size() + 45), name + ": expected a contiguous uint8 image [H, W, 3]") << message;
    }
  }
}

TEST(AugmentOperations, RefuseArgumentsOutOfRange) {
  const at::Tensor image = random_image(6, 5, 1);
  for (const char* name : {"color", "contrast", "brightness", "sharpness", "rotate", "shear_x", "shear_y",
                           "translate_x_rel", "translate_y_rel"}) {
    for (const double value : {std::numeric_limits<double>::infinity(), std::numeric_limits<double>::quiet_NaN()}) {
      const std::string message = message_of<std::invalid_argument>([&] { operations().at(name)(image, value); });
      EXPECT_EQ(message, std::string(name) + ": expected a finite number, got " + std::to_string(value));
    }
  }
  const auto refuses = [&](const std::string& name, double value, const std::string& message) {
    EXPECT_EQ(message_of<std::invalid_argument>([&] { operations().at(name)(image, value); }), name + message);
  };
  refuses("posterize", -1, ": expected an integer from 0 to 8, got -1");
  refuses("posterize", 9, ": expected an integer from 0 to 8, got 9");
  refuses("solarize", 257, ": expected an integer from 0 to 256, got 257");
  refuses("solarize_add", -1, ": expected an integer from 0 to 255, got -1");
  refuses("gaussian_blur", -0.5, ": expected a radius from 0 to 1000, got -0.500000");
  refuses("gaussian_blur", 1000.5, ": expected a radius from 0 to 1000, got 1000.500000");
}

}  // namespace
}  // namespace vrwkv::data::augment

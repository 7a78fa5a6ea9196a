#include "config/nearest_name.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <random>

namespace vrwkv::config {
namespace {

/// The definition, written as a recursion over the last letters.
std::size_t recursive_distance(const std::string& a, const std::string& b) {
  if (a.empty() || b.empty()) return std::max(a.size(), b.size());
  const std::string a1 = a.substr(0, a.size() - 1);
  const std::string b1 = b.substr(0, b.size() - 1);
  std::size_t least = std::min({recursive_distance(a1, b) + 1, recursive_distance(a, b1) + 1,
                                recursive_distance(a1, b1) + (a.back() == b.back() ? 0 : 1)});
  if (a.size() > 1 && b.size() > 1 && a.back() == b[b.size() - 2] && a[a.size() - 2] == b.back()) {
    least = std::min(least, recursive_distance(a.substr(0, a.size() - 2), b.substr(0, b.size() - 2)) + 1);
  }
  return least;
}

TEST(EditDistance, KnownPairs) {
  EXPECT_EQ(edit_distance("", ""), 0U);
  EXPECT_EQ(edit_distance("", "abc"), 3U);
  EXPECT_EQ(edit_distance("epochs", "epochs"), 0U);
  EXPECT_EQ(edit_distance("epoch", "epochs"), 1U);
  EXPECT_EQ(edit_distance("peochs", "epochs"), 1U);
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3U);
}

TEST(EditDistance, EqualsItsDefinitionOnRandomWords) {
  std::mt19937 random(3);
  std::uniform_int_distribution<int> length(0, 6);
  std::uniform_int_distribution<int> letter('a', 'c');
  const auto word = [&] {
    std::string text(static_cast<std::size_t>(length(random)), ' ');
    for (char& c : text) c = static_cast<char>(letter(random));
    return text;
  };
  for (int i = 0; i < 300; ++i) {
    const std::string a = word();
    const std::string b = word();
    EXPECT_EQ(edit_distance(a, b), recursive_distance(a, b)) << a << " " << b;
    EXPECT_EQ(edit_distance(a, b), edit_distance(b, a)) << a << " " << b;
  }
}

TEST(NearestName, FindsSlipsAndNothingElse) {
  const std::vector<std::string> names = {"epochs", "batch_size", "lr", "log_every", "eval_every"};
  EXPECT_EQ(nearest_name("epoch", names), "epochs");
  EXPECT_EQ(nearest_name("batchsize", names), "batch_size");
  EXPECT_EQ(nearest_name("l", names), "lr");
  EXPECT_EQ(nearest_name("evale_very", names), "eval_every");
  EXPECT_EQ(nearest_name("mixup", names), std::nullopt);
  EXPECT_EQ(nearest_name("", names), std::nullopt);
  EXPECT_EQ(nearest_name("xy", names), std::nullopt);
  EXPECT_EQ(nearest_name(std::string(100'000, 'e'), names), std::nullopt);
  EXPECT_EQ(nearest_name("epochs", {}), std::nullopt);
}

}  // namespace
}  // namespace vrwkv::config

#include "data/ground_truth.h"

#include <algorithm>
#include <fstream>
#include <functional>
#include <map>
#include <string_view>

#include "common/errors.h"
#include "data/label_text.h"

namespace vrwkv::data {
namespace {

/// Calls `use` with each line that is not blank, and its number.
void each_line(const std::filesystem::path& path, const std::string& expected,
               const std::function<void(std::string_view, int64_t)>& use) {
  std::ifstream file(path);
  if (!file || std::filesystem::is_directory(path)) {
    throw UsageError("'" + path.string() + "' cannot be opened: expected " + expected);
  }
  bool empty = true;
  std::string text;
  for (int64_t number = 1; std::getline(file, text); ++number) {
    const std::string_view line = trimmed(text);
    if (line.empty()) continue;
    empty = false;
    use(line, number);
  }
  if (empty) throw UsageError("'" + path.string() + "' is empty: expected " + expected);
}

[[noreturn]] void fail(const std::filesystem::path& path, int64_t line, const std::string& what) {
  throw UsageError(path.string() + ":" + std::to_string(line) + ": " + what);
}

}  // namespace

GroundTruth read_ground_truth(const std::filesystem::path& truth, const std::filesystem::path& synsets) {
  std::vector<std::string> names;  // In ILSVRC's order.
  std::map<std::string, int64_t> label_of;
  each_line(synsets, "a class name (WNID) in each line, in ILSVRC's order", [&](std::string_view line, int64_t number) {
    names.emplace_back(line.substr(0, line.find_first_of(" \t,")));
    if (!label_of.emplace(names.back(), 0).second) fail(synsets, number, "'" + names.back() + "' is there twice");
  });
  GroundTruth result;
  for (auto& [name, label] : label_of) {
    label = std::ssize(result.classes);
    result.classes.push_back(name);
  }
  std::vector<int64_t> images(names.size());
  each_line(truth, "the number of a class in each line, from 1 on", [&](std::string_view line, int64_t number) {
    const auto id = parse_label(line);
    if (!id || *id < 1 || *id > std::ssize(names)) {
      fail(truth, number,
           "expected a class as a number 1 … " + std::to_string(names.size()) + ", as '" + synsets.string() + "' has " +
               std::to_string(names.size()) + " classes, got '" + std::string(line.substr(0, 200)) + "'");
    }
    result.labels.push_back(label_of.at(names[static_cast<std::size_t>(*id - 1)]));
    ++images[static_cast<std::size_t>(*id - 1)];
  });
  if (const auto none = std::ranges::find(images, 0); none != images.end()) {
    const auto id = none - images.begin();
    throw UsageError("'" + synsets.string() + "' names '" + names[static_cast<std::size_t>(id)] + "' as class " +
                     std::to_string(id + 1) + ", which no image in '" + truth.string() +
                     "' has: expected the 1000 classes of ILSVRC2012 alone, in the devkit's order");
  }
  return result;
}

}  // namespace vrwkv::data

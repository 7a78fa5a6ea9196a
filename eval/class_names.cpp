#include "eval/class_names.h"

#include <fstream>

#include "common/errors.h"
#include "eval/imagenet_classes.h"

namespace vrwkv::eval {
namespace {

constexpr int64_t kImagenetClasses = 1000;

std::vector<std::string> read_lines(const std::string& file) {
  std::ifstream stream(file);
  std::vector<std::string> lines;
  for (std::string line; std::getline(stream, line);) {
    if (line.ends_with('\r')) line.pop_back();
    lines.push_back(line);
  }
  if (!stream.eof()) throw UsageError("--classes: " + file + " cannot be read");
  while (!lines.empty() && lines.back().empty()) lines.pop_back();
  return lines;
}

}  // namespace

std::vector<std::string> class_names(int64_t count, const std::string& file,
                                     const std::vector<std::string>& of_checkpoint) {
  std::vector<std::string> names = file.empty() ? of_checkpoint : read_lines(file);
  if (names.empty() && file.empty()) {
    if (count == kImagenetClasses) return imagenet_classes();
    for (int64_t i = 0; i < count; ++i) names.push_back("class " + std::to_string(i));
  }
  if (static_cast<int64_t>(names.size()) != count) {
    throw UsageError((file.empty() ? "the checkpoint" : "--classes: " + file) + " has " + std::to_string(names.size()) +
                     " class names, the model " + std::to_string(count) + " classes");
  }
  return names;
}

}  // namespace vrwkv::eval

#include "eval/image_paths.h"

#include <algorithm>
#include <filesystem>

#include "common/errors.h"
#include "data/image_name.h"

namespace vrwkv::eval {
namespace {

namespace fs = std::filesystem;

std::vector<std::string> images_below(const std::string& folder) {
  std::vector<std::string> found;
  std::error_code problem;
  for (auto entry = fs::recursive_directory_iterator(folder, fs::directory_options::follow_directory_symlink, problem);
       !problem && entry != fs::recursive_directory_iterator(); entry.increment(problem)) {
    if (entry->is_regular_file() && data::is_image_name(entry->path().string()))
      found.push_back(entry->path().string());
  }
  if (problem) throw UsageError(folder + " cannot be read: " + problem.message());
  if (found.empty()) throw UsageError(folder + " holds no JPEG or PNG files");
  std::ranges::sort(found);
  return found;
}

}  // namespace

std::vector<std::string> image_paths(const std::vector<std::string>& arguments) {
  std::vector<std::string> paths;
  for (const std::string& argument : arguments) {
    if (fs::is_directory(argument)) {
      const std::vector<std::string> found = images_below(argument);
      paths.insert(paths.end(), found.begin(), found.end());
    } else {
      paths.push_back(argument);
    }
  }
  return paths;
}

}  // namespace vrwkv::eval

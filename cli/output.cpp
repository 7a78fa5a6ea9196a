#include "cli/output.h"

#include <unistd.h>

#include <filesystem>
#include <iostream>

#include "common/atomic_file.h"
#include "common/errors.h"

namespace vrwkv::cli {

void check_output(const std::string& flag, const std::string& target) {
  if (target.empty() || target == "-") return;
  const std::filesystem::path path(target);
  if (std::filesystem::is_directory(path)) {
    throw UsageError(flag + ": expected a file, but " + target + " is a folder");
  }
  const std::filesystem::path folder = path.has_parent_path() ? path.parent_path() : ".";
  if (!std::filesystem::is_directory(folder)) {
    throw UsageError(flag + ": the folder of " + target + " does not exist; make it first");
  }
  if (::access(folder.c_str(), W_OK | X_OK) != 0) {
    throw UsageError(flag + ": the folder of " + target + " cannot be written");
  }
}

void write_output(const std::string& target, const std::string& text) {
  if (target == "-") {
    std::cout << text;
    return;
  }
  AtomicFile file(target);
  file.write(text);
  file.commit();
}

}  // namespace vrwkv::cli

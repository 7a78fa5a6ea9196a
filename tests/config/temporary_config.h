#pragma once

#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

#include "common/errors.h"
#include "config/run_config.h"

namespace vrwkv::config {

/// A folder of configuration files, removed at the end.
class TemporaryConfigs {
 public:
  TemporaryConfigs() {
    std::string pattern = (std::filesystem::temp_directory_path() / "vrwkv_config_XXXXXX").string();
    if (::mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("no temporary folder " + pattern);
    folder_ = pattern;
  }
  ~TemporaryConfigs() {
    std::error_code error;
    std::filesystem::remove_all(folder_, error);
  }
  TemporaryConfigs(const TemporaryConfigs&) = delete;
  TemporaryConfigs& operator=(const TemporaryConfigs&) = delete;

  const std::filesystem::path& folder() const { return folder_; }

  /// Writes `text` to `name` and returns the file's path.
  std::filesystem::path write(const std::string& name, const std::string& text) const {
    const std::filesystem::path file = folder_ / name;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream stream(file, std::ios::binary);
    stream << text;
    return file;
  }

  /// load_run_config of the file `name`.
  RunConfig load(const std::string& name, const std::vector<std::string>& overrides = {}) const {
    return load_run_config(folder_ / name, overrides);
  }

  /// The message of the UsageError that loading `name` throws, without this folder's path; "no error" if none is
  /// thrown. Other exceptions pass.
  std::string error(const std::string& name, const std::vector<std::string>& overrides = {}) const {
    std::string message;
    try {
      load(name, overrides);
      return "no error";
    } catch (const UsageError& error) {
      message = error.what();
    }
    const std::string prefix = folder_.string() + "/";
    for (auto at = message.find(prefix); at != std::string::npos; at = message.find(prefix)) {
      message.erase(at, prefix.size());
    }
    return message;
  }

 private:
  std::filesystem::path folder_;
};

/// Loads `text` as the file x.yaml.
inline RunConfig load_text(const std::string& text, const std::vector<std::string>& overrides = {}) {
  const TemporaryConfigs configs;
  configs.write("x.yaml", text);
  return configs.load("x.yaml", overrides);
}

/// TemporaryConfigs::error of `text` as the file x.yaml.
inline std::string error_of(const std::string& text, const std::vector<std::string>& overrides = {}) {
  const TemporaryConfigs configs;
  configs.write("x.yaml", text);
  return configs.error("x.yaml", overrides);
}

}  // namespace vrwkv::config

#pragma once

#include <string>
#include <vector>

#include "config/node.h"

namespace vrwkv::config {

/// Collects what is wrong, so that one run reports all of it.
class Problems {
 public:
  void add(const Location& where, const std::string& message) { found_.push_back({where, message}); }
  bool empty() const { return found_.empty(); }

  /// Throws UsageError with one `FILE:LINE: message` a line, ordered by file and line, when anything was added.
  void throw_if_any() const;

 private:
  struct Problem {
    Location where;
    std::string message;
  };
  std::vector<Problem> found_;
};

}  // namespace vrwkv::config

#pragma once

#include <stdexcept>
#include <string>

namespace vrwkv {

/// The command line, the configuration or a path named there is wrong: nothing was started. Executables exit with 2.
/// Every other exception means that a run failed half-way; executables then exit with 1.
class UsageError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

}  // namespace vrwkv

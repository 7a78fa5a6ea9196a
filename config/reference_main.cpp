#include <iostream>

#include "config/run_config.h"

/// Prints docs/config.md.
int main() {
  std::cout << vrwkv::config::config_reference_markdown() << std::flush;
  return std::cout ? 0 : 1;
}

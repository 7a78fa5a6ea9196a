#include <cstddef>
#include <cstdint>
#include <string>

#include "common/errors.h"
#include "config/yaml_source.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    vrwkv::config::parse_yaml(std::string(reinterpret_cast<const char*>(data), size), "fuzz.yaml");
  } catch (const vrwkv::UsageError&) {
  }
  return 0;
}

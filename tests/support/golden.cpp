#include "tests/support/golden.h"

namespace vrwkv::testing {

std::string golden_path(const std::string& file) { return std::string(VRWKV_SOURCE_DIR "/tests/golden/") + file; }

Safetensors read_golden(const std::string& file) { return read_safetensors(golden_path(file)); }

}  // namespace vrwkv::testing

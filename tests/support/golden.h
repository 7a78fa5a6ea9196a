#pragma once

#include <string>

#include "vrwkv/checkpoint/safetensors.h"

namespace vrwkv::testing {

/// The folder tests/golden.
std::string golden_path(const std::string& file);

/// A golden file's tensors and metadata.
Safetensors read_golden(const std::string& file);

}  // namespace vrwkv::testing

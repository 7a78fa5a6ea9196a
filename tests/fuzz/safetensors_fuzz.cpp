#include <stdexcept>

#include "tests/fuzz/memory_file.h"
#include "tests/fuzz/read_all.h"
#include "vrwkv/checkpoint/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const vrwkv::fuzz::MemoryFile file(data, size);
  try {
    vrwkv::fuzz::read_all(vrwkv::read_safetensors(file.path()).tensors);
  } catch (const std::runtime_error&) {
  }
  return 0;
}

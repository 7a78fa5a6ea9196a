#include <stdexcept>

#include "tests/fuzz/memory_file.h"
#include "tests/fuzz/read_all.h"
#include "vrwkv/checkpoint/pth.h"

/// LibTorch's archive reader loses its tables when its constructor throws.
extern "C" const char* __lsan_default_suppressions() {
  return "leak:mz_zip_reader_init\nleak:mz_zip_reader_read_central_dir\n";
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const vrwkv::fuzz::MemoryFile file(data, size);
  vrwkv::looks_like_pth(file.path());
  for (const auto set : {vrwkv::WeightSet::raw, vrwkv::WeightSet::ema}) {
    try {
      vrwkv::fuzz::read_all(vrwkv::read_pth(file.path(), set).tensors);
    } catch (const std::runtime_error&) {
    }
  }
  return 0;
}

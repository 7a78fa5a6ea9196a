#include <numeric>

#include "common/errors.h"
#include "data/tar_index.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    [[maybe_unused]] volatile unsigned sum = 0;  // Reads what the entries point to.
    for (const auto& entry : vrwkv::data::index_tar({data, size}, "fuzz.tar")) {
      sum = std::accumulate(entry.bytes.begin(), entry.bytes.end(), 0U);
    }
  } catch (const vrwkv::UsageError&) {
  }
  return 0;
}

#include <stdexcept>

#include "vrwkv/checkpoint/pickle.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const vrwkv::Pickle pickle({data, size});
    pickle.find(pickle.root(), "state_dict");
  } catch (const std::runtime_error&) {
  }
  return 0;
}

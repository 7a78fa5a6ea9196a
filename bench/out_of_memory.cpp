#include "bench/out_of_memory.h"

#include <c10/util/Exception.h>

#include <new>
#include <string_view>

#include "bench/device_info.h"

namespace vrwkv::bench {
namespace {

/// The CPU's allocator and CUDA's libraries throw c10::Error like any other failure: only the text tells.
bool is_out_of_memory(const c10::Error& error) {
  if (dynamic_cast<const c10::OutOfMemoryError*>(&error) != nullptr) return true;
  const std::string_view text = error.what_without_backtrace();
  for (const char* sign : {"can't allocate memory", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED"}) {
    if (text.find(sign) != std::string_view::npos) return true;
  }
  return false;
}

bool try_to_run(const std::function<void()>& work) {
  try {
    work();
    return true;
  } catch (const c10::Error& error) {
    if (!is_out_of_memory(error)) throw;
  } catch (const std::bad_alloc&) {
  }
  return false;
}

}  // namespace

bool fits_in_memory(at::Device device, const std::function<void()>& work) {
  release_cached_memory(device);
  const bool fits = try_to_run(work);
  release_cached_memory(device);
  return fits;
}

}  // namespace vrwkv::bench

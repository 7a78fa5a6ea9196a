#include <caffe2/serialize/inline_container.h>

#include <array>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/fuzz/memory_file.h"
#include "tests/fuzz/read_all.h"
#include "vrwkv/checkpoint/pth.h"

namespace {

/// A sound archive, with sums that agree, around any pickle: what lies behind the zip format is reached this way alone.
std::vector<uint8_t> archive_around(const uint8_t* data, size_t size) {
  std::vector<uint8_t> bytes;
  caffe2::serialize::PyTorchStreamWriter writer([&](const void* part, size_t count) {
    const auto* first = static_cast<const uint8_t*>(part);
    bytes.insert(bytes.end(), first, first + count);
    return count;
  });
  writer.writeRecord("data.pkl", data, size);
  constexpr std::array<uint8_t, 24> kStorage{};
  for (const char* key : {"0", "1", "2"}) {
    writer.writeRecord(std::string("data/") + key, kStorage.data(), kStorage.size());
  }
  writer.writeEndOfFile();
  return bytes;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::vector<uint8_t> archive = archive_around(data, size);
  const vrwkv::fuzz::MemoryFile file(archive.data(), archive.size());
  try {
    vrwkv::fuzz::read_all(vrwkv::read_pth(file.path()).tensors);
  } catch (const std::runtime_error&) {
  }
  return 0;
}

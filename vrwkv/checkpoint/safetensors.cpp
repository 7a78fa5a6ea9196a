#include "vrwkv/checkpoint/safetensors.h"

#include <ATen/Functions.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>
#include <stdexcept>
#include <vector>

#include "common/atomic_file.h"

namespace vrwkv {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors data is little-endian");

using nlohmann::json;

constexpr uint64_t kMaxHeader = 100'000'000;  // The format's own limit.
constexpr uint64_t kAlignment = 8;

struct DtypeName {
  const char* name;
  at::ScalarType dtype;
};

constexpr std::array kDtypes{DtypeName{"F64", at::kDouble},
                             DtypeName{"F32", at::kFloat},
                             DtypeName{"F16", at::kHalf},
                             DtypeName{"BF16", at::kBFloat16},
                             DtypeName{"I64", at::kLong},
                             DtypeName{"I32", at::kInt},
                             DtypeName{"I16", at::kShort},
                             DtypeName{"I8", at::kChar},
                             DtypeName{"U8", at::kByte},
                             DtypeName{"BOOL", at::kBool},
                             DtypeName{"F8_E4M3", at::kFloat8_e4m3fn},
                             DtypeName{"F8_E5M2", at::kFloat8_e5m2}};

/// A private mapping of a whole file: what is written to it stays in this process.
class Mapping {
 public:
  explicit Mapping(const std::filesystem::path& path) {
    const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) throw std::runtime_error(path.string() + ": " + std::strerror(errno));
    struct stat status {};
    const bool known = ::fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode);
    if (known) size_ = static_cast<uint64_t>(status.st_size);
    if (size_ > 0) data_ = ::mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE, descriptor, 0);
    ::close(descriptor);
    if (!known) throw std::runtime_error(path.string() + ": not a regular file");
    if (data_ == MAP_FAILED) throw std::runtime_error(path.string() + ": cannot be mapped: " + std::strerror(errno));
  }
  ~Mapping() {
    if (data_ != nullptr && data_ != MAP_FAILED) ::munmap(data_, size_);
  }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  uint64_t size() const { return size_; }
  std::byte* at(uint64_t offset) const { return static_cast<std::byte*>(data_) + offset; }

 private:
  void* data_ = nullptr;
  uint64_t size_ = 0;
};

/// One file being read; every error names it.
class Reader {
 public:
  explicit Reader(const std::filesystem::path& path) : path_(path), file_(std::make_shared<Mapping>(path)) {}

  Safetensors read() {
    const json header = parse_header();
    Safetensors result;
    for (const auto& [name, entry] : header.items()) {
      if (name == "__metadata__") {
        read_metadata(entry, result);
      } else {
        result.tensors.emplace(name, read_tensor(name, entry));
      }
    }
    check_coverage();
    return result;
  }

 private:
  [[noreturn]] void fail(const std::string& what) const { throw std::runtime_error(path_.string() + ": " + what); }

  json parse_header() {
    if (file_->size() < 8) fail("not a safetensors file: " + std::to_string(file_->size()) + " bytes, at least 8 expected");
    uint64_t length = 0;
    std::memcpy(&length, file_->at(0), sizeof(length));
    if (length > kMaxHeader) fail("not a safetensors file: its header would have " + std::to_string(length) + " bytes");
    if (length > file_->size() - 8) {
      fail("truncated: the header has " + std::to_string(length) + " bytes, the file only " +
           std::to_string(file_->size()));
    }
    data_start_ = 8 + length;
    const auto* text = reinterpret_cast<const char*>(file_->at(8));
    // nlohmann-json keeps the last of two equal keys; a file that names a tensor twice is refused instead.
    std::vector<std::string> top_level;
    const auto on_event = [&](int depth, json::parse_event_t event, json& parsed) {
      if (event == json::parse_event_t::key && depth == 1) top_level.push_back(parsed.get<std::string>());
      return true;
    };
    json header;
    try {
      header = json::parse(text, text + length, on_event);
    } catch (const json::exception& error) {
      fail(std::string("the header is no valid JSON: ") + error.what());
    }
    if (!header.is_object()) fail("the header must be a JSON object");
    std::sort(top_level.begin(), top_level.end());
    const auto twice = std::adjacent_find(top_level.begin(), top_level.end());
    if (twice != top_level.end()) fail("the header names '" + *twice + "' twice");
    return header;
  }

  void read_metadata(const json& entry, Safetensors& result) const {
    if (!entry.is_object()) fail("__metadata__ must be an object of strings");
    for (const auto& [key, value] : entry.items()) {
      if (!value.is_string()) fail("__metadata__: '" + key + "' must be a string");
      result.metadata.emplace(key, value.get<std::string>());
    }
  }

  uint64_t unsigned_value(const std::string& name, const json& value, const char* what) const {
    if (!value.is_number_unsigned()) fail("tensor '" + name + "': " + what + " must be non-negative integers");
    return value.get<uint64_t>();
  }

  at::Tensor read_tensor(const std::string& name, const json& entry) {
    if (!entry.is_object() || !entry.contains("dtype") || !entry["dtype"].is_string() || !entry.contains("shape") ||
        !entry["shape"].is_array() || !entry.contains("data_offsets") || !entry["data_offsets"].is_array() ||
        entry["data_offsets"].size() != 2) {
      fail("tensor '" + name + "' must have a dtype, a shape and two data_offsets");
    }
    const auto dtype_name = entry["dtype"].get<std::string>();
    const auto* found = std::find_if(kDtypes.begin(), kDtypes.end(), [&](const auto& d) { return dtype_name == d.name; });
    if (found == kDtypes.end()) fail("tensor '" + name + "' has the unknown dtype " + dtype_name);

    const uint64_t item = c10::elementSize(found->dtype);
    uint64_t bytes = item;
    std::vector<int64_t> shape;
    bool overflow = false;
    for (const auto& side : entry["shape"]) {
      const uint64_t value = unsigned_value(name, side, "shape");
      overflow = overflow || value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()) ||
                 __builtin_mul_overflow(bytes, value, &bytes);
      shape.push_back(static_cast<int64_t>(value));
    }
    const uint64_t begin = unsigned_value(name, entry["data_offsets"][0], "data_offsets");
    const uint64_t end = unsigned_value(name, entry["data_offsets"][1], "data_offsets");
    if (overflow || begin > end || end - begin != bytes) {
      std::ostringstream text;
      text << "tensor '" << name << "' of dtype " << dtype_name << " and shape " << entry["shape"].dump() << " needs "
           << (overflow ? "too many" : std::to_string(bytes)) << " bytes, its data_offsets are [" << begin << ", " << end
           << "]";
      fail(text.str());
    }
    const uint64_t available = file_->size() - data_start_;
    if (end > available) {
      fail("truncated: tensor '" + name + "' ends at byte " + std::to_string(end) + " of the data, the file has " +
           std::to_string(available));
    }
    extents_.push_back({begin, end, name});
    return view(begin, shape, found->dtype);
  }

  at::Tensor view(uint64_t begin, const std::vector<int64_t>& shape, at::ScalarType dtype) const {
    std::byte* data = file_->at(data_start_ + begin);
    const auto keep_alive = [file = file_](void*) {};
    const at::Tensor tensor = at::from_blob(data, shape, keep_alive, at::TensorOptions(dtype));
    const bool aligned = reinterpret_cast<uintptr_t>(data) % c10::elementSize(dtype) == 0;
    if (aligned || tensor.numel() == 0) return tensor;
    at::Tensor copy = at::empty(shape, at::TensorOptions(dtype));
    std::memcpy(copy.mutable_data_ptr(), data, copy.nbytes());
    return copy;
  }

  /// The format allows neither holes nor overlaps: every byte belongs to one tensor.
  void check_coverage() {
    std::sort(extents_.begin(), extents_.end(),
              [](const Extent& a, const Extent& b) { return std::tie(a.begin, a.end) < std::tie(b.begin, b.end); });
    uint64_t expected = 0;
    for (const auto& extent : extents_) {
      if (extent.begin != expected) {
        fail("tensor '" + extent.name + "' must begin at byte " + std::to_string(expected) + " of the data, but begins at " +
             std::to_string(extent.begin));
      }
      expected = extent.end;
    }
    const uint64_t available = file_->size() - data_start_;
    if (expected != available) {
      fail("the header describes " + std::to_string(expected) + " bytes of data, the file has " +
           std::to_string(available));
    }
  }

  struct Extent {
    uint64_t begin, end;
    std::string name;
  };

  std::filesystem::path path_;
  std::shared_ptr<const Mapping> file_;
  uint64_t data_start_ = 0;
  std::vector<Extent> extents_;
};

const char* dtype_name(const std::string& tensor, at::ScalarType dtype) {
  for (const auto& known : kDtypes) {
    if (known.dtype == dtype) return known.name;
  }
  throw std::runtime_error("safetensors cannot hold tensor '" + tensor + "' of dtype " + c10::toString(dtype));
}

}  // namespace

Safetensors read_safetensors(const std::filesystem::path& path) { return Reader(path).read(); }

void write_safetensors(const std::filesystem::path& path, const std::map<std::string, at::Tensor>& tensors,
                       const std::map<std::string, std::string>& metadata) {
  json header = json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  uint64_t offset = 0;
  for (const auto& [name, tensor] : tensors) {
    header[name] = {{"dtype", dtype_name(name, tensor.scalar_type())},
                    {"shape", tensor.sizes().vec()},
                    {"data_offsets", {offset, offset + tensor.nbytes()}}};
    offset += tensor.nbytes();
  }
  std::string text = header.dump(-1, ' ', false, json::error_handler_t::replace);
  text.append((kAlignment - text.size() % kAlignment) % kAlignment, ' ');

  AtomicFile file(path);
  const uint64_t length = text.size();
  file.write(&length, sizeof(length));
  file.write(text);
  for (const auto& [name, tensor] : tensors) {
    const at::Tensor host = tensor.detach().cpu().contiguous();
    file.write(host.const_data_ptr(), host.nbytes());
  }
  file.commit();
}

}  // namespace vrwkv

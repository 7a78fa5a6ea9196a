#include "vrwkv/checkpoint/safetensors.h"

#include <ATen/Functions.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <stdexcept>
#include <tuple>
#include <vector>

#include "common/atomic_file.h"
#include "vrwkv/checkpoint/file_mapping.h"

namespace vrwkv {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors data is little-endian");

using nlohmann::json;

constexpr uint64_t kMaxHeader = 100'000'000;  // The format's own limit.
constexpr uint64_t kAlignment = 8;
constexpr size_t kMaxDimensions = 64;  // LibTorch's own limit.
constexpr const char* kMetadataKey = "__metadata__";

struct DtypeName {
  const char* name;
  at::ScalarType dtype;
};

constexpr std::array kDtypes{DtypeName{"F64", at::kDouble},
                             DtypeName{"F32", at::kFloat},
                             DtypeName{"F16", at::kHalf},
                             DtypeName{"BF16", at::kBFloat16},
                             DtypeName{"C64", at::kComplexFloat},
                             DtypeName{"I64", at::kLong},
                             DtypeName{"I32", at::kInt},
                             DtypeName{"I16", at::kShort},
                             DtypeName{"I8", at::kChar},
                             DtypeName{"U64", at::kUInt64},
                             DtypeName{"U32", at::kUInt32},
                             DtypeName{"U16", at::kUInt16},
                             DtypeName{"U8", at::kByte},
                             DtypeName{"BOOL", at::kBool},
                             DtypeName{"F8_E4M3", at::kFloat8_e4m3fn},
                             DtypeName{"F8_E5M2", at::kFloat8_e5m2},
                             DtypeName{"F8_E8M0", at::kFloat8_e8m0fnu}};

/// One file being read; every error names it.
class Reader {
 public:
  explicit Reader(const std::filesystem::path& path) : path_(path), file_(std::make_shared<FileMapping>(path)) {}

  Safetensors read() {
    const json header = parse_header();
    Safetensors result;
    for (const auto& [name, entry] : header.items()) {
      if (name == kMetadataKey) {
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
    if (file_->size() < 8)
      fail("not a safetensors file: " + std::to_string(file_->size()) + " bytes, at least 8 expected");
    uint64_t length = 0;
    std::memcpy(&length, file_->at(0), sizeof(length));
    if (length > kMaxHeader) {
      fail("not a safetensors file: its header would have " + std::to_string(length) + " bytes, at most " +
           std::to_string(kMaxHeader) + " expected");
    }
    if (length > file_->size() - 8) {
      fail("truncated: 8 + " + std::to_string(length) + " bytes of header expected, the file has " +
           std::to_string(file_->size()));
    }
    data_start_ = 8 + length;
    const auto* text = reinterpret_cast<const char*>(file_->at(8));
    const json header = parse_json(text, text + length);
    if (!header.is_object()) fail("not a safetensors file: its header must be a JSON object");
    return header;
  }

  /// Refuses what the library would let pass: of two equal keys it keeps the last, and it nests as deep as memory goes.
  json parse_json(const char* begin, const char* end) const {
    std::vector<std::set<std::string>> keys;
    const auto check = [&](int depth, json::parse_event_t event, const json& parsed) {
      if (event == json::parse_event_t::object_start) keys.emplace_back();
      if (event == json::parse_event_t::object_end) keys.pop_back();
      if (event == json::parse_event_t::key && !keys.back().insert(parsed.get<std::string>()).second) {
        fail("the header names '" + parsed.get<std::string>() + "' twice");
      }
      if (depth > 2 && event != json::parse_event_t::value) fail("the header is nested deeper than the format allows");
      return true;
    };
    try {
      return json::parse(begin, end, check);
    } catch (const json::parse_error& error) {
      fail("not a safetensors file, or damaged: its header is no valid JSON at byte " + std::to_string(error.byte));
    } catch (const json::exception& error) {
      fail(std::string("not a safetensors file, or damaged: its header is no valid JSON: ") + error.what());
    }
  }

  void read_metadata(const json& entry, Safetensors& result) const {
    if (!entry.is_object()) fail("__metadata__ must be an object of strings");
    for (const auto& [key, value] : entry.items()) {
      if (!value.is_string()) fail("__metadata__: '" + key + "' must be a string");
      result.metadata.emplace(key, value.get<std::string>());
    }
  }

  uint64_t unsigned_value(const std::string& name, const json& value, const char* what) const {
    if (!value.is_number_unsigned()) {
      fail("tensor '" + name + "': " + what + " must be non-negative integers, got " + value.dump());
    }
    return value.get<uint64_t>();
  }

  std::vector<int64_t> read_shape(const std::string& name, const json& entry) const {
    if (entry.size() > kMaxDimensions) {
      fail("tensor '" + name + "' has " + std::to_string(entry.size()) + " dimensions, at most " +
           std::to_string(kMaxDimensions) + " expected");
    }
    std::vector<int64_t> shape;
    for (const auto& side : entry) shape.push_back(static_cast<int64_t>(unsigned_value(name, side, "shape")));
    return shape;
  }

  /// Nothing when it is beyond what an address can be. A side of 0 does not excuse the others: LibTorch multiplies them
  /// for the strides.
  static std::optional<uint64_t> byte_count(const std::vector<int64_t>& shape, uint64_t item) {
    int64_t bytes = static_cast<int64_t>(item);
    bool empty = false;
    for (const int64_t side : shape) {
      if (side < 0) return std::nullopt;  // Above the largest int64 in the file.
      empty = empty || side == 0;
      if (side > 0 && __builtin_mul_overflow(bytes, side, &bytes)) return std::nullopt;
    }
    return empty ? 0 : static_cast<uint64_t>(bytes);
  }

  at::Tensor read_tensor(const std::string& name, const json& entry) {
    if (!entry.is_object() || !entry.contains("dtype") || !entry["dtype"].is_string() || !entry.contains("shape") ||
        !entry["shape"].is_array() || !entry.contains("data_offsets") || !entry["data_offsets"].is_array() ||
        entry["data_offsets"].size() != 2) {
      fail("tensor '" + name + "' must have a dtype, a shape and two data_offsets");
    }
    const auto dtype_name = entry["dtype"].get<std::string>();
    const auto* found =
        std::find_if(kDtypes.begin(), kDtypes.end(), [&](const auto& d) { return dtype_name == d.name; });
    if (found == kDtypes.end()) fail("tensor '" + name + "' has the unknown dtype '" + dtype_name + "'");

    const std::vector<int64_t> shape = read_shape(name, entry["shape"]);
    const std::optional<uint64_t> bytes = byte_count(shape, c10::elementSize(found->dtype));
    const uint64_t begin = unsigned_value(name, entry["data_offsets"][0], "data_offsets");
    const uint64_t end = unsigned_value(name, entry["data_offsets"][1], "data_offsets");
    if (!bytes || begin > end || end - begin != *bytes) {
      fail("tensor '" + name + "' of dtype " + dtype_name + " and shape " + entry["shape"].dump() + " needs " +
           (bytes ? std::to_string(*bytes) : "too many") + " bytes, its data_offsets are " +
           entry["data_offsets"].dump());
    }
    const uint64_t available = file_->size() - data_start_;
    if (end > available) {
      fail("truncated: tensor '" + name + "' ends at byte " + std::to_string(end) + " of the data, the file has " +
           std::to_string(available) + " bytes of data");
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
        fail("tensor '" + extent.name + "' must begin at byte " + std::to_string(expected) +
             " of the data, but begins at " + std::to_string(extent.begin));
      }
      expected = extent.end;
    }
    const uint64_t available = file_->size() - data_start_;
    if (expected != available) {
      fail("the header describes " + std::to_string(expected) + " bytes of data, the file has " +
           std::to_string(available) + " bytes");
    }
  }

  struct Extent {
    uint64_t begin, end;
    std::string name;
  };

  std::filesystem::path path_;
  std::shared_ptr<const FileMapping> file_;
  uint64_t data_start_ = 0;
  std::vector<Extent> extents_;
};

using Entry = std::pair<const std::string, at::Tensor>;

const char* find_dtype_name(at::ScalarType dtype) {
  const auto* found = std::find_if(kDtypes.begin(), kDtypes.end(), [&](const auto& d) { return d.dtype == dtype; });
  return found == kDtypes.end() ? nullptr : found->name;
}

bool is_utf8(const std::string& text) {
  try {
    return !json(text).dump().empty();
  } catch (const json::type_error&) {
    return false;
  }
}

/// Throws unless the format can hold the tensor.
void check_writable(const Entry& entry) {
  const auto& [name, tensor] = entry;
  const auto fail = [&name = name](const std::string& why) {
    throw std::runtime_error("tensor '" + name + "' " + why);
  };
  if (name == kMetadataKey) fail("has a name that the format keeps for itself");
  if (!is_utf8(name)) fail("has a name that is not UTF-8");
  if (!tensor.defined()) fail("is undefined");
  if (tensor.layout() != at::kStrided || tensor.is_meta()) fail("is not dense, or has no data");
  if (find_dtype_name(tensor.scalar_type()) == nullptr) {
    fail(std::string("has dtype ") + c10::toString(tensor.scalar_type()) + ", which the format does not know");
  }
}

/// The order of the data: wide dtypes first keeps every tensor aligned, as the data begins aligned for the widest.
std::vector<const Entry*> data_order(const std::map<std::string, at::Tensor>& tensors) {
  std::vector<const Entry*> order;
  for (const auto& entry : tensors) order.push_back(&entry);
  std::stable_sort(order.begin(), order.end(),
                   [](const Entry* a, const Entry* b) { return a->second.itemsize() > b->second.itemsize(); });
  return order;
}

/// The JSON header, padded with blanks as the format allows.
std::string make_header(const std::vector<const Entry*>& order, const std::map<std::string, std::string>& metadata) {
  json header = json::object();
  if (!metadata.empty()) header[kMetadataKey] = metadata;
  uint64_t offset = 0;
  for (const auto* entry : order) {
    const auto& [name, tensor] = *entry;
    const uint64_t end = offset + tensor.nbytes();
    header[name] = {{"dtype", find_dtype_name(tensor.scalar_type())},
                    {"shape", tensor.sizes().vec()},
                    {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text = header.dump(-1, ' ', false, json::error_handler_t::replace);
  text.append((kAlignment - text.size() % kAlignment) % kAlignment, ' ');
  if (text.size() > kMaxHeader) {
    throw std::runtime_error("the header of " + std::to_string(order.size()) + " tensors has " +
                             std::to_string(text.size()) + " bytes, the format allows " + std::to_string(kMaxHeader));
  }
  return text;
}

}  // namespace

Safetensors read_safetensors(const std::filesystem::path& path) { return Reader(path).read(); }

void write_safetensors(const std::filesystem::path& path, const std::map<std::string, at::Tensor>& tensors,
                       const std::map<std::string, std::string>& metadata) {
  std::vector<const Entry*> order;
  std::string header;
  try {
    for (const auto& entry : tensors) check_writable(entry);
    order = data_order(tensors);
    header = make_header(order, metadata);
  } catch (const std::runtime_error& error) {
    throw std::runtime_error("cannot write " + path.string() + ": " + error.what());
  }

  AtomicFile file(path);
  const uint64_t length = header.size();
  file.write(&length, sizeof(length));
  file.write(header);
  for (const auto* entry : order) {
    // One by one: of a model on a GPU, one tensor at a time is on the host.
    const at::Tensor host = entry->second.detach().cpu().resolve_conj().resolve_neg().contiguous();
    file.write(host.const_data_ptr(), host.nbytes());
  }
  file.commit();
}

}  // namespace vrwkv

#include "vrwkv/checkpoint/pth.h"

#include <ATen/Functions.h>
#include <caffe2/serialize/inline_container.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <memory>
#include <optional>
#include <stdexcept>
#include <vector>

#include "vrwkv/checkpoint/file_mapping.h"
#include "vrwkv/checkpoint/pickle.h"
#include "vrwkv/checkpoint/pth_types.h"
#include "vrwkv/checkpoint/zip_sizes.h"

namespace vrwkv {
namespace {

using Kind = Pickle::Kind;
using Value = Pickle::Value;

constexpr size_t kMaxDimensions = 64;  // LibTorch's own limit.
constexpr size_t kAlignment = 16;      // Of the widest elements.

/// The start of a file, as far as it tells the format.
std::string head_of(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::string head(512, '\0');
  file.read(head.data(), static_cast<std::streamsize>(head.size()));
  head.resize(static_cast<size_t>(std::max<std::streamsize>(file.gcount(), 0)));
  return head;
}

bool is_zip(const std::string& head) { return head.starts_with("PK\x03\x04"); }
bool is_tar(const std::string& head) { return head.size() >= 262 && head.compare(257, 5, "ustar") == 0; }
bool is_pickle(const std::string& head) {
  return head.size() >= 2 && head[0] == '\x80' && head[1] >= 2 && head[1] <= 5;
}

/// Runs `read`; what LibTorch's archive reader throws becomes an error of this file, without its backtrace.
template <typename Read>
auto checked(const std::filesystem::path& path, const Read& read) {
  try {
    return read();
  } catch (const c10::Error& error) {
    throw std::runtime_error(path.string() + ": damaged archive: " + error.what_without_backtrace());
  }
}

/// One file being read; every error names it.
class Reader {
 public:
  explicit Reader(const std::filesystem::path& path)
      : path_(path), file_(std::make_shared<FileMapping>(path)), archive_(open_archive()), pickle_(read_pickle()) {}

  PthFile read(WeightSet set) {
    PthFile file;
    const Value& dict = find_weights(set);
    for (size_t i = 0; i + 1 < dict.items.size(); i += 2) {
      const Value& key = pickle_[dict.items[i]];
      const Value& value = pickle_[dict.items[i + 1]];
      if (key.kind != Kind::text || !is_tensor(value)) continue;  // Counters and the like.
      file.tensors.insert_or_assign(key.text, read_tensor(key.text, value));
    }
    if (const Value* meta = pickle_.find(pickle_.root(), "meta"); meta != nullptr && meta->kind == Kind::dict) {
      for (size_t i = 0; i + 1 < meta->items.size(); i += 2) {
        const Value &key = pickle_[meta->items[i]], &value = pickle_[meta->items[i + 1]];
        if (key.kind == Kind::text && value.kind == Kind::text) file.metadata.insert_or_assign(key.text, value.text);
      }
    }
    return file;
  }

 private:
  [[noreturn]] void fail(const std::string& what) const { throw std::runtime_error(path_.string() + ": " + what); }

  std::unique_ptr<caffe2::serialize::PyTorchStreamReader> open_archive() const {
    try {
      check_zip_sizes({file_->at(0), file_->size()});
    } catch (const std::runtime_error& error) {
      fail(error.what());
    }
    return checked(path_, [&] { return std::make_unique<caffe2::serialize::PyTorchStreamReader>(path_.string()); });
  }

  Pickle read_pickle() {
    return checked(path_, [this] {
      if (archive_->hasRecord("constants.pkl")) {
        fail("a TorchScript archive, which holds a program; save the module's state_dict() in Python instead");
      }
      if (!archive_->hasRecord("data.pkl")) fail("a zip archive, but not one of PyTorch's: it has no data.pkl");
      const auto [data, size] = archive_->getRecord("data.pkl");
      try {
        return Pickle({static_cast<const uint8_t*>(data.get()), size});
      } catch (const std::runtime_error& error) {
        fail(error.what());
      }
    });
  }

  /// The text of a global; empty for anything else.
  std::string global(size_t index) const {
    return pickle_[index].kind == Kind::global ? pickle_[index].text : std::string();
  }

  bool is_tensor(const Value& value) const {
    if (value.kind != Kind::call) return false;
    const std::string function = global(value.items[0]);
    return function.starts_with("torch._utils _rebuild_") || function == "torch._tensor _rebuild_from_type_v2";
  }

  bool has_tensors(const Value& dict) const {
    if (dict.kind != Kind::dict) return false;
    for (size_t i = 1; i < dict.items.size(); i += 2) {
      if (is_tensor(pickle_[dict.items[i]])) return true;
    }
    return false;
  }

  const Value& find_weights(WeightSet set) const {
    const auto names = set == WeightSet::raw
                           ? std::vector<std::string>{"state_dict", "model"}
                           : std::vector<std::string>{"ema_state_dict", "model_ema", "state_dict_ema"};
    const Value& root = pickle_.root();
    for (const std::string& name : names) {
      const Value* dict = pickle_.find(root, name);
      if (dict != nullptr && has_tensors(*dict)) return *dict;
    }
    if (set == WeightSet::raw && has_tensors(root)) return root;
    std::string expected;
    for (const std::string& name : names) expected += (expected.empty() ? "'" : ", '") + name + "'";
    fail(std::string("no ") + (set == WeightSet::raw ? "" : "moving average of the ") +
         "weights found; expected a dict of tensors " + (set == WeightSet::raw ? "itself, or one " : "") + "under " +
         expected + ", got " + describe(root));
  }

  /// What stands at the top of the file, for people.
  std::string describe(const Value& value) const {
    if (value.kind == Kind::call) return "an object of " + global(value.items[0]);
    if (value.kind != Kind::dict) return "something else than a dict";
    std::string keys;
    constexpr size_t kShown = 8;
    for (size_t i = 0; i + 1 < value.items.size() && i < 2 * kShown; i += 2) {
      const Value& key = pickle_[value.items[i]];
      if (key.kind == Kind::text) keys += (keys.empty() ? "'" : ", '") + key.text + "'";
    }
    return "a dict with the keys " + (keys.empty() ? "(none)" : keys);
  }

  [[noreturn]] void fail_tensor(const std::string& name, const std::string& what) const {
    fail("tensor '" + name + "': " + what);
  }

  const Value& argument(const std::string& name, const Value& call, size_t index, Kind kind) const {
    const Value& arguments = pickle_[call.items[1]];
    if (arguments.kind != Kind::tuple || index >= arguments.items.size()) fail_tensor(name, "has too few parts");
    const Value& value = pickle_[arguments.items[index]];
    if (value.kind != kind) fail_tensor(name, "part " + std::to_string(index) + " is not what PyTorch writes there");
    return value;
  }

  std::vector<int64_t> sizes(const std::string& name, const Value& tuple, const char* what) const {
    if (tuple.items.size() > kMaxDimensions)
      fail_tensor(name, "has " + std::to_string(tuple.items.size()) + " dimensions");
    std::vector<int64_t> values;
    for (const size_t item : tuple.items) {
      const Value& value = pickle_[item];
      if (value.kind != Kind::integer || value.integer < 0) {
        fail_tensor(name, std::string(what) + " must be integers of at least 0");
      }
      values.push_back(value.integer);
    }
    return values;
  }

  /// A storage of the file: its bytes, and what keeps them alive.
  struct Storage {
    std::byte* data;
    uint64_t size;
    std::shared_ptr<const void> owner;
  };

  at::Tensor read_tensor(const std::string& name, const Value& call) {
    // A parameter wraps a tensor; nothing wraps a parameter.
    const Value* tensor = &call;
    if (global(call.items[0]).starts_with("torch._utils _rebuild_parameter")) {
      tensor = &argument(name, call, 0, Kind::call);
    }
    const std::string function = global(tensor->items[0]);
    const bool typed = function == "torch._utils _rebuild_tensor_v3";
    if (!typed && function != "torch._utils _rebuild_tensor_v2" && function != "torch._utils _rebuild_tensor") {
      fail_tensor(name, "of a kind that is not read (" + (function.empty() ? "unknown" : function) +
                            "); make it dense, on the CPU, in Python");
    }
    const Value& arguments = pickle_[tensor->items[1]];
    const Value& identifier = pickle_[argument(name, *tensor, 0, Kind::persistent).items[0]];
    if (identifier.kind != Kind::tuple || identifier.items.size() < 3)
      fail_tensor(name, "its storage has no identifier");
    const std::string type_name =
        typed && arguments.items.size() > 6 ? global(arguments.items[6]) : global(identifier.items[1]);
    const auto* type = std::find_if(kPthTypes.begin(), kPthTypes.end(), [&](const PthType& candidate) {
      return !type_name.empty() && type_name == (typed ? candidate.dtype : candidate.storage);
    });
    if (type == kPthTypes.end()) {
      fail_tensor(name, "of type '" + (type_name.empty() ? "unknown" : type_name) + "', which is not read");
    }
    const Value& key = pickle_[identifier.items[2]];
    if (key.kind != Kind::text) fail_tensor(name, "its storage has no key");
    const int64_t offset = argument(name, *tensor, 1, Kind::integer).integer;
    const auto shape = sizes(name, argument(name, *tensor, 2, Kind::tuple), "sizes");
    const auto strides = sizes(name, argument(name, *tensor, 3, Kind::tuple), "strides");
    return make_tensor(name, type->type, read_storage(name, key.text), offset, shape, strides);
  }

  at::Tensor make_tensor(const std::string& name, at::ScalarType dtype, const Storage& storage, int64_t offset,
                         const std::vector<int64_t>& shape, const std::vector<int64_t>& strides) const {
    if (shape.size() != strides.size()) fail_tensor(name, "its sizes and strides differ in number");
    const auto item = static_cast<int64_t>(c10::elementSize(dtype));
    int64_t last = offset, count = 1;  // The furthest element, and how many there are.
    bool empty = false, overflow = offset < 0;
    for (size_t i = 0; i < shape.size(); ++i) {
      empty = empty || shape[i] == 0;
      int64_t reach = 0;
      overflow = overflow || __builtin_mul_overflow(std::max<int64_t>(shape[i] - 1, 0), strides[i], &reach) ||
                 __builtin_add_overflow(last, reach, &last) ||
                 __builtin_mul_overflow(count, std::max<int64_t>(shape[i], 1), &count);
    }
    int64_t bytes = 0, all = 0;
    overflow = overflow || last == std::numeric_limits<int64_t>::max() ||
               __builtin_mul_overflow(last + 1, item, &bytes) || __builtin_mul_overflow(count, item, &all);
    if (overflow) fail_tensor(name, "its sizes are larger than any memory");
    if (empty) return at::empty(shape, dtype);
    if (static_cast<uint64_t>(bytes) > storage.size) {
      fail_tensor(
          name, "needs " + std::to_string(bytes) + " bytes of its storage, which has " + std::to_string(storage.size));
    }
    const auto options = at::TensorOptions(dtype);
    return at::from_blob(storage.data + offset * item, shape, strides, [owner = storage.owner](void*) {}, options);
  }

  /// Bytes that lie in the file unaligned are copied, once for all tensors that share them.
  Storage read_storage(const std::string& name, const std::string& key) {
    const auto known = storages_.find(key);
    if (known != storages_.end()) return known->second;
    const std::string record = "data/" + key;
    return checked(path_, [&] {
      if (!archive_->hasRecord(record)) fail_tensor(name, "its storage '" + record + "' is not in the archive");
      const uint64_t size = archive_->getRecordSize(record);
      const uint64_t header = archive_->getRecordHeaderOffset(record), start = archive_->getRecordOffset(record);
      constexpr uint64_t kMethod = 8;  // Where a local header says how its file is compressed; 0: not at all.
      const bool stored = header + kMethod + 2 <= file_->size() && *file_->at(header + kMethod) == std::byte{0} &&
                          *file_->at(header + kMethod + 1) == std::byte{0};
      Storage storage{};
      const bool inside = start <= file_->size() && size <= file_->size() - start;
      if (stored && inside && reinterpret_cast<uintptr_t>(file_->at(start)) % kAlignment == 0) {
        storage = {file_->at(start), size, file_};
      } else {
        auto [data, bytes] = archive_->getRecord(record);
        auto owner = std::make_shared<at::DataPtr>(std::move(data));
        storage = {static_cast<std::byte*>(owner->get()), bytes, owner};
      }
      storages_.emplace(key, storage);
      return storage;
    });
  }

  std::filesystem::path path_;
  std::shared_ptr<const FileMapping> file_;
  std::unique_ptr<caffe2::serialize::PyTorchStreamReader> archive_;
  Pickle pickle_;
  std::map<std::string, Storage> storages_;
};

}  // namespace

bool looks_like_pth(const std::filesystem::path& path) {
  const std::string head = head_of(path);
  // The length of a safetensors header may look like any magic, but is followed by the header's brace.
  if (head.size() > 8 && head[8] == '{') return false;
  return is_zip(head) || is_tar(head) || is_pickle(head);
}

PthFile read_pth(const std::filesystem::path& path, WeightSet set) {
  if (!is_zip(head_of(path))) {
    throw std::runtime_error(path.string() +
                             ": not a zip archive, as torch.save writes it since PyTorch 1.6; an older file is "
                             "converted in Python:\n"
                             "  import torch\n"
                             "  torch.save(torch.load('in.pth', map_location='cpu', weights_only=True), 'out.pth')");
  }
  return Reader(path).read(set);
}

}  // namespace vrwkv

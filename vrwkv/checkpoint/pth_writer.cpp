#include "vrwkv/checkpoint/pth_writer.h"

#include <ATen/Functions.h>
#include <caffe2/serialize/inline_container.h>

#include <stdexcept>

#include "common/atomic_file.h"
#include "vrwkv/checkpoint/pth_types.h"

namespace vrwkv {
namespace {

/// Writes the opcodes of protocol 2 that a state dict needs.
class PickleWriter {
 public:
  PickleWriter() { bytes_ = "\x80\x02"; }

  void text(const std::string& value) {
    bytes_ += 'X';
    little_endian(value.size(), 4);
    bytes_ += value;
  }
  void integer(int64_t value) {
    bytes_ += "\x8a\x08";  // LONG1
    little_endian(static_cast<uint64_t>(value), 8);
  }
  void integers(at::IntArrayRef values) {
    mark();
    for (const int64_t value : values) integer(value);
    close_tuple();
  }
  /// `name` as it stands in the pickle: module, newline, name.
  void global(const std::string& name) {
    bytes_ += 'c';
    bytes_ += name.substr(0, name.find(' ')) + "\n" + name.substr(name.find(' ') + 1) + "\n";
  }
  void no() { bytes_ += '\x89'; }
  void mark() { bytes_ += '('; }
  void close_tuple() { bytes_ += 't'; }
  void start_dict() { bytes_ += "}("; }
  void close_dict() { bytes_ += 'u'; }
  void persistent() { bytes_ += 'Q'; }
  void call() { bytes_ += 'R'; }
  std::string finish() { return bytes_ + "."; }

 private:
  void little_endian(uint64_t value, int size) {
    for (int i = 0; i < size; ++i) bytes_ += static_cast<char>(value >> (8 * i) & 0xff);
  }
  std::string bytes_;
};

void write_tensor(PickleWriter& pickle, const std::string& key, const at::Tensor& tensor, const char* storage) {
  pickle.global("torch._utils _rebuild_tensor_v2");
  pickle.mark();
  pickle.mark();
  pickle.text("storage");
  pickle.global(storage);
  pickle.text(key);
  pickle.text("cpu");
  pickle.integer(tensor.numel());
  pickle.close_tuple();
  pickle.persistent();
  pickle.integer(0);
  pickle.integers(tensor.sizes());
  pickle.integers(tensor.strides());
  pickle.no();  // requires_grad
  pickle.global("collections OrderedDict");
  pickle.mark();
  pickle.close_tuple();
  pickle.call();  // No hooks.
  pickle.close_tuple();
  pickle.call();
}

}  // namespace

void write_pth(const std::filesystem::path& path, const std::map<std::string, at::Tensor>& tensors,
               const std::map<std::string, std::string>& metadata) {
  PickleWriter pickle;
  pickle.start_dict();
  pickle.text("meta");
  pickle.start_dict();
  for (const auto& [key, value] : metadata) {
    pickle.text(key);
    pickle.text(value);
  }
  pickle.close_dict();
  pickle.text("state_dict");
  pickle.start_dict();
  std::vector<at::Tensor> storages;
  for (const auto& [name, tensor] : tensors) {
    const char* const storage = storage_class(tensor.scalar_type());
    if (*storage == '\0') {
      throw std::runtime_error(path.string() + ": tensor '" + name + "' is " + c10::toString(tensor.scalar_type()) +
                               ", which a .pth state dict has no storage for; write .safetensors instead");
    }
    storages.push_back(tensor.detach().cpu().contiguous());
    pickle.text(name);
    write_tensor(pickle, std::to_string(storages.size() - 1), storages.back(), storage);
  }
  pickle.close_dict();
  pickle.close_dict();
  const std::string program = pickle.finish();

  AtomicFile file(path);
  caffe2::serialize::PyTorchStreamWriter archive([&file](const void* data, size_t size) {
    file.write(data, size);
    return size;
  });
  archive.writeRecord("data.pkl", program.data(), program.size());
  archive.writeRecord("byteorder", "little", 6);
  for (size_t i = 0; i < storages.size(); ++i) {
    archive.writeRecord("data/" + std::to_string(i), storages[i].const_data_ptr(), storages[i].nbytes());
  }
  archive.writeEndOfFile();
  file.commit();
}

}  // namespace vrwkv

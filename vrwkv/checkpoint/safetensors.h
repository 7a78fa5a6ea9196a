#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <map>
#include <string>

namespace vrwkv {

/// The content of a .safetensors file: named tensors, and string metadata.
struct Safetensors {
  std::map<std::string, at::Tensor> tensors;
  std::map<std::string, std::string> metadata;
};

/// Reads a file of the safetensors format (8 bytes header length, JSON header, data). The tensors are CPU views of the
/// memory-mapped file, which lives as long as they do (copies where the data is not aligned for its dtype); changing
/// them changes no file. Everything in the header is checked before it is used: throws std::runtime_error that names
/// the file, the tensor, what was expected and what came.
Safetensors read_safetensors(const std::filesystem::path& path);

/// Writes atomically; tensors of any device and strides, the widest dtypes first, then by name, so that each is
/// aligned. Bytes of `metadata` that are not UTF-8 become U+FFFD. Throws std::runtime_error that names the file and the
/// reason; a former file then stays.
void write_safetensors(const std::filesystem::path& path, const std::map<std::string, at::Tensor>& tensors,
                       const std::map<std::string, std::string>& metadata = {});

}  // namespace vrwkv

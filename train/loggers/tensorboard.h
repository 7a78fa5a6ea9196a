#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

namespace vrwkv::train {

/// An event file of TensorBoard: `<folder>/events.out.tfevents.<seconds since 1970>.<host>`.
///
/// The file is a TFRecord (tensorflow/core/lib/io/record_writer.h): for each record its length (uint64, little-endian),
/// the masked CRC-32C of that, the data, the masked CRC-32C of that. The data is a protocol buffer of the message Event
/// (tensorflow/core/util/event.proto), encoded here by hand, since a protobuf library would clash with LibTorch's.
class TensorboardLog {
 public:
  /// Starts a file that is read after all others of the folder. TensorBoard drops points beyond `step` that older files
  /// hold (of a run that went on after its last checkpoint). Throws std::runtime_error, as all members do, naming the
  /// file that cannot be written.
  TensorboardLog(const std::filesystem::path& folder, int64_t step);

  /// Points of several curves (tag, value), written through at once. TensorBoard keeps them as float32.
  void write(int64_t step, const std::vector<std::pair<std::string, double>>& scalars);

 private:
  void write_record(const std::string& data);

  std::filesystem::path path_;
  std::ofstream file_;
};

}  // namespace vrwkv::train

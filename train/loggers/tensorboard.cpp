#include "train/loggers/tensorboard.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <stdexcept>
#include <string_view>

#include "train/loggers/crc32c.h"

namespace vrwkv::train {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPrefix = "events.out.tfevents.";

template <typename Unsigned>
void append_little_endian(std::string& out, Unsigned value) {
  for (size_t byte = 0; byte < sizeof(value); ++byte) out += static_cast<char>((value >> (8 * byte)) & 0xFF);
}

/// A protocol buffer in the making (protobuf.dev/programming-guides/encoding). Fields are numbered as in event.proto
/// and summary.proto.
class Message {
 public:
  Message& integer(uint64_t field, int64_t value) {
    key(field, 0);
    varint(static_cast<uint64_t>(value));
    return *this;
  }
  Message& real64(uint64_t field, double value) {
    key(field, 1);
    append_little_endian(data_, std::bit_cast<uint64_t>(value));
    return *this;
  }
  Message& bytes(uint64_t field, std::string_view value) {
    key(field, 2);
    varint(value.size());
    data_ += value;
    return *this;
  }
  Message& real32(uint64_t field, float value) {
    key(field, 5);
    append_little_endian(data_, std::bit_cast<uint32_t>(value));
    return *this;
  }

  const std::string& data() const { return data_; }

 private:
  void key(uint64_t field, uint64_t wire_type) { varint(field << 3 | wire_type); }

  void varint(uint64_t value) {
    for (; value >= 0x80; value >>= 7) data_ += static_cast<char>((value & 0x7F) | 0x80);
    data_ += static_cast<char>(value);
  }

  std::string data_;
};

Message event(int64_t step) {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  Message message;
  message.real64(1, std::chrono::duration<double>(now).count()).integer(2, step);
  return message;
}

/// A CRC of data that holds CRCs is weak, so the format stores them rotated and shifted.
uint32_t masked_crc(std::string_view data) { return std::rotr(crc32c(data), 15) + 0xA282EAD8U; }

std::string host_name() {
  std::array<char, 256> name{};
  return ::gethostname(name.data(), name.size() - 1) == 0 && name[0] != '\0' ? name.data() : "localhost";
}

/// Files are read in the order of their names, so the new one gets a second that none has: two resumptions may lie
/// within the same.
int64_t free_second(const fs::path& folder) {
  int64_t second =
      std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    int64_t taken = 0;
    if (!name.starts_with(kPrefix)) continue;
    if (std::from_chars(name.data() + kPrefix.size(), name.data() + name.size(), taken).ec != std::errc()) continue;
    second = std::max(second, taken + 1);
  }
  return second;
}

}  // namespace

TensorboardLog::TensorboardLog(const fs::path& folder, int64_t step)
    : path_(folder / (std::string(kPrefix) + std::to_string(free_second(folder)) + "." + host_name())),
      file_(path_, std::ios::binary | std::ios::trunc) {
  Message version = event(0);
  write_record(version.bytes(3, "brain.Event:2").data());
  constexpr int64_t kStart = 1;
  Message start = event(step + 1);
  write_record(start.bytes(7, Message().integer(1, kStart).data()).data());
}

void TensorboardLog::write(int64_t step, const std::vector<std::pair<std::string, double>>& scalars) {
  Message summary;
  for (const auto& [tag, value] : scalars) {
    summary.bytes(1, Message().bytes(1, tag).real32(2, static_cast<float>(value)).data());
  }
  Message message = event(step);
  write_record(message.bytes(5, summary.data()).data());
}

void TensorboardLog::write_record(const std::string& data) {
  std::string record;
  append_little_endian(record, static_cast<uint64_t>(data.size()));
  append_little_endian(record, masked_crc(record));
  record += data;
  append_little_endian(record, masked_crc(data));
  file_ << record << std::flush;
  if (!file_) throw std::runtime_error("cannot write " + path_.string() + ": " + std::strerror(errno));
}

}  // namespace vrwkv::train

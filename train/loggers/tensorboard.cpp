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
#include <protozero/pbf_writer.hpp>
#include <stdexcept>
#include <string_view>

#include "train/loggers/crc32c.h"

namespace vrwkv::train {
namespace {

namespace fs = std::filesystem;
using protozero::pbf_writer;

constexpr std::string_view kPrefix = "events.out.tfevents.";

template <typename Unsigned>
void append_little_endian(std::string& out, Unsigned value) {
  for (size_t byte = 0; byte < sizeof(value); ++byte) out += static_cast<char>((value >> (8 * byte)) & 0xFF);
}

// Fields are numbered as in TensorFlow's event.proto and summary.proto.

/// An Event of now, to be completed.
std::string event(int64_t step) {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  std::string data;
  pbf_writer writer(data);
  writer.add_double(1, std::chrono::duration<double>(now).count());
  writer.add_int64(2, step);
  return data;
}

std::string summary_value(const std::string& tag, double value) {
  std::string data;
  pbf_writer writer(data);
  writer.add_string(1, tag);
  writer.add_float(2, static_cast<float>(value));
  return data;
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
  std::string version = event(0), start = event(step + 1), session;
  pbf_writer(version).add_string(3, "brain.Event:2");
  write_record(version);
  constexpr int32_t kStart = 1;
  pbf_writer(session).add_enum(1, kStart);
  pbf_writer(start).add_message(7, session);
  write_record(start);
}

void TensorboardLog::write(int64_t step, const std::vector<std::pair<std::string, double>>& scalars) {
  std::string summary, message = event(step);
  for (const auto& [tag, value] : scalars) pbf_writer(summary).add_message(1, summary_value(tag, value));
  pbf_writer(message).add_message(5, summary);
  write_record(message);
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

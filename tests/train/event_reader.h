#pragma once

#include <bit>
#include <cstdint>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace vrwkv::testing {

/// CRC-32C bit by bit, as the definition has it: a division of polynomials over GF(2), bits reflected.
inline uint32_t crc32c_by_bits(std::string_view data) {
  uint32_t crc = 0xFFFFFFFF;
  for (const char c : data) {
    for (int bit = 0; bit < 8; ++bit) {
      const uint32_t out = (crc ^ (static_cast<unsigned char>(c) >> bit)) & 1;
      crc >>= 1;
      if (out != 0) crc ^= 0x82F63B78;
    }
  }
  return ~crc;
}

/// Reads records and protocol buffers from the front of bytes; throws std::runtime_error at what is torn.
class ByteReader {
 public:
  explicit ByteReader(std::string_view bytes) : bytes_(bytes) {}

  bool empty() const { return bytes_.empty(); }

  std::string_view take(size_t count) {
    if (count > bytes_.size()) throw std::runtime_error("torn");
    const std::string_view taken = bytes_.substr(0, count);
    bytes_.remove_prefix(count);
    return taken;
  }

  uint64_t little_endian(size_t count) {
    uint64_t value = 0;
    const std::string_view taken = take(count);
    for (size_t i = count; i-- > 0;) value = value << 8 | static_cast<unsigned char>(taken[i]);
    return value;
  }

  uint64_t varint() {
    uint64_t value = 0;
    for (unsigned shift = 0;; shift += 7) {
      const auto byte = static_cast<unsigned char>(take(1)[0]);
      value |= static_cast<uint64_t>(byte & 0x7F) << shift;
      if (byte < 0x80) return value;
    }
  }

  /// One record of a TFRecord file; throws unless both checksums hold.
  std::string_view record() {
    const std::string_view length = take(8);
    check(length);
    const std::string_view data = take(ByteReader(length).little_endian(8));
    check(data);
    return data;
  }

 private:
  void check(std::string_view data) {
    const uint32_t crc = crc32c_by_bits(data);
    const uint32_t masked = ((crc >> 15) | (crc << 17)) + 0xA282EAD8;
    if (little_endian(4) != masked) throw std::runtime_error("wrong checksum");
  }

  std::string_view bytes_;
};

/// What a field of a protocol buffer holds: numbers as their bits, or bytes.
struct ProtoField {
  uint64_t type = 0;
  uint64_t bits = 0;
  std::string_view bytes;
};

inline std::multimap<uint64_t, ProtoField> proto_fields(std::string_view message) {
  std::multimap<uint64_t, ProtoField> fields;
  for (ByteReader reader(message); !reader.empty();) {
    const uint64_t key = reader.varint();
    ProtoField field;
    field.type = key & 7;
    switch (field.type) {
      case 0:
        field.bits = reader.varint();
        break;
      case 1:
        field.bits = reader.little_endian(8);
        break;
      case 2:
        field.bytes = reader.take(reader.varint());
        break;
      case 5:
        field.bits = reader.little_endian(4);
        break;
      default:
        throw std::runtime_error("unknown wire type");
    }
    fields.emplace(key >> 3, field);
  }
  return fields;
}

/// An Event as event.proto numbers its fields.
struct Event {
  double wall_time = 0;
  int64_t step = 0;
  std::string version;
  bool starts = false;  ///< A SessionLog START.
  std::vector<std::pair<std::string, float>> scalars;
};

inline Event event_of(std::string_view message) {
  Event event;
  for (const auto& [number, field] : proto_fields(message)) {
    if (number == 1) event.wall_time = std::bit_cast<double>(field.bits);
    if (number == 2) event.step = static_cast<int64_t>(field.bits);
    if (number == 3) event.version = field.bytes;
    if (number == 7) event.starts = proto_fields(field.bytes).find(1)->second.bits == 1;
    if (number != 5) continue;
    for (const auto& [one, value] : proto_fields(field.bytes)) {
      const auto parts = proto_fields(value.bytes);
      event.scalars.emplace_back(parts.find(1)->second.bytes,
                                 std::bit_cast<float>(static_cast<uint32_t>(parts.find(2)->second.bits)));
    }
  }
  return event;
}

inline std::vector<Event> events_of(std::string_view file) {
  std::vector<Event> events;
  for (ByteReader reader(file); !reader.empty();) events.push_back(event_of(reader.record()));
  return events;
}

}  // namespace vrwkv::testing

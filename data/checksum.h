#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace vrwkv::data {

/// CRC-32 of zip, gzip and PNG (ISO 3309; Python's zlib.crc32): finds damage, not tampering. `before` continues the sum
/// of bytes that came earlier.
std::uint32_t crc32(std::span<const std::uint8_t> bytes, std::uint32_t before = 0);

/// Eight hexadecimal digits.
std::string crc32_text(std::uint32_t sum);

}  // namespace vrwkv::data

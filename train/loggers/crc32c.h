#pragma once

#include <cstdint>
#include <string_view>

namespace vrwkv::train {

/// CRC-32C (Castagnoli) of `data` as RFC 3720, appendix B.4, defines it: reflected polynomial 0x82F63B78, start and
/// final inversion. Of "123456789" it is 0xE3069283.
uint32_t crc32c(std::string_view data);

}  // namespace vrwkv::train

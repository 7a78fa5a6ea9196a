#pragma once

#include <cstddef>
#include <span>

namespace vrwkv {

/// Throws std::runtime_error unless every entry in the central directory of a zip archive (with or without the 64-bit
/// sizes of zip64) claims a size that its compressed bytes can unpack to, and all of these fit into the archive beside
/// each other. LibTorch's
/// archive reader takes the memory that an entry claims before it unpacks it, so that a file of some bytes could ask
/// for gigabytes. A directory that is not found, or ends early, passes: LibTorch says what is wrong with it.
void check_zip_sizes(std::span<const std::byte> archive);

}  // namespace vrwkv

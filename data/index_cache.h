#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>

#include "data/image_index.h"

namespace vrwkv::data {

/// The folder that the option `index_cache` means: none for "off"; $VRWKV_CACHE/index for "auto", where VRWKV_CACHE is
/// $XDG_CACHE_HOME/vrwkv or ~/.cache/vrwkv unless it is set (none if there is no home either); the folder itself
/// otherwise.
std::optional<std::filesystem::path> index_cache_folder(const std::string& option);

/// The index whose origin is `origin`: from the cache, a file in the folder that `option` means, as long as none of its
/// sources has changed; otherwise what `scan` returns, which is then put into the cache. A damaged file is replaced
/// with a warning. One that cannot be written costs a warning and the time of the next scan. An index of something that
/// changed less than two seconds ago is not kept, as another change within the clock's tick would not be seen.
/// `scan` sets sources (with absolute paths), classes and images.
ImageIndex cached_index(const std::string& option, const std::string& origin, const std::function<ImageIndex()>& scan);

}  // namespace vrwkv::data

#pragma once

#include <ATen/core/Tensor.h>

#include <string>

namespace vrwkv::tools {

/// The image uint8 [H, W, 3] after the operation that `text` asks for: `name` or `name=value`, with a name of
/// data/augment/named.h. Throws UsageError for an unknown name, and for a value that is missing, superfluous, no number
/// or out of the operation's range.
at::Tensor apply_operation(const std::string& text, const at::Tensor& image);

}  // namespace vrwkv::tools

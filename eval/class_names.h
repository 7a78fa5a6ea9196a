#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace vrwkv::eval {

/// `count` names for the classes: the lines of the text file `file`, else (no file) those of the checkpoint, else those
/// of ImageNet-1K for 1000 classes, else "class 0", "class 1", … Throws UsageError unless there are as many names as
/// classes.
std::vector<std::string> class_names(int64_t count, const std::string& file,
                                     const std::vector<std::string>& of_checkpoint);

}  // namespace vrwkv::eval

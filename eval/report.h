#pragma once

#include <string>
#include <vector>

#include "eval/metrics/accuracy.h"

namespace vrwkv::eval {

/// `top-1 97.22  top-5 100.00`: percent with two decimals.
std::string summary_line(const Accuracy& accuracy);

/// A table of images and accuracies by class.
std::string class_table(const Accuracy& accuracy, const std::vector<std::string>& classes);

/// Exact counts and percentages as JSON; by class too when `per_class`.
std::string to_json(const Accuracy& accuracy, const std::vector<std::string>& classes, bool per_class,
                    const std::string& config, const std::string& checkpoint);

/// Writes text to a file, or to stdout for "-".
void write_result(const std::string& target, const std::string& text);

}  // namespace vrwkv::eval

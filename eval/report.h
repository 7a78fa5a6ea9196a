#pragma once

#include <string>
#include <vector>

#include "eval/metrics/accuracy.h"

namespace vrwkv::eval {

/// `top-1 97.22  top-5 100.00`, in percent.
std::string summary_line(const Accuracy& accuracy);

/// A line for each class: its name, images, correct ones, and both percentages.
std::string class_table(const Accuracy& accuracy, const std::vector<std::string>& names);

/// What an evaluation was of.
struct ReportSource {
  std::string config;
  std::string checkpoint;
};

/// The exact counts as a JSON object; with `names`, also those of each class. A loss that is not finite becomes null.
std::string report_json(const Accuracy& accuracy, const ReportSource& source, const std::vector<std::string>& names);

}  // namespace vrwkv::eval

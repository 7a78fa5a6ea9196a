#pragma once

#include <string>
#include <vector>

#include "data/options.h"
#include "eval/metrics/accuracy.h"
#include "vrwkv/checkpoint/weights.h"

namespace vrwkv::eval {

/// `top-1 97.22  top-5 100.00`, in percent.
std::string summary_line(const Accuracy& accuracy);

/// A line for each class: its name, images, correct ones, and both percentages.
std::string class_table(const Accuracy& accuracy, const std::vector<std::string>& names);

/// The same as CSV (RFC 4180), and as a gnuplot script that prints a picture: bars, the worst class first.
std::string class_csv(const Accuracy& accuracy, const std::vector<std::string>& names);
std::string class_script(const Accuracy& accuracy, const std::vector<std::string>& names);

/// What an evaluation was of.
struct ReportSource {
  std::string config;
  std::string checkpoint;
  WeightSet weights = WeightSet::raw;
  data::EvalTransformOptions transform = {};
  std::string tta = {};  ///< Empty: none.
};

struct Report {
  ReportSource source;
  Accuracy accuracy;
};

/// The exact counts as a JSON object; with `names`, also those of each class. A loss that is not finite becomes null.
std::string report_json(const Report& report, const std::vector<std::string>& names);

/// A list of such objects.
std::string reports_json(const std::vector<Report>& reports);

/// A line for each report.
std::string reports_csv(const std::vector<Report>& reports);

/// A gnuplot script that prints top-1 over the size of the input, a line for each checkpoint.
std::string size_plot_script(const std::vector<Report>& reports);

}  // namespace vrwkv::eval

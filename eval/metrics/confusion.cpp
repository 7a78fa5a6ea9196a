#include "eval/metrics/confusion.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <sstream>

#include "common/gnuplot.h"
#include "eval/csv_field.h"

namespace vrwkv::eval {
namespace {

constexpr int64_t kNamed = 40;     ///< More names than this cannot be read beside a picture.
constexpr int64_t kNumbered = 15;  ///< More numbers than this cannot be read within it.
constexpr size_t kNameLength = 24;

std::string tics(const char* axis, const std::vector<std::string>& names) {
  if (std::ssize(names) > kNamed) return "";
  std::ostringstream out;
  out << "set " << axis << "tics" << (axis[0] == 'x' ? " rotate by 55 right" : "") << " (";
  for (size_t i = 0; i < names.size(); ++i) {
    out << (i == 0 ? "" : ", ") << gnuplot_string(names[i], kNameLength) << " " << i;
  }
  out << ")\n";
  return out.str();
}

}  // namespace

ConfusionMatrix::ConfusionMatrix(int64_t groups, int64_t classes, at::Device device)
    : counts_(at::zeros({groups, classes}, at::TensorOptions().dtype(at::kLong).device(device))) {}

void ConfusionMatrix::update(const at::Tensor& logits, const at::Tensor& groups) {
  const at::NoGradGuard no_grad;
  const at::Tensor valid = logits.isnan().any(1).logical_not_().to(at::kLong);
  const at::Tensor cells = groups * counts_.size(1) + logits.argmax(1);
  counts_.view(-1).index_add_(0, cells, valid);
}

void ConfusionMatrix::add_up(distributed::World& world) {
  if (world.size() == 1) return;
  at::Tensor host = counts_.cpu();
  world.sum(host);
  counts_.copy_(host);
}

std::string confusion_csv(const at::Tensor& counts, const std::vector<std::string>& groups,
                          const std::vector<std::string>& classes) {
  const auto value = counts.accessor<int64_t, 2>();
  std::string text = "class";
  for (const std::string& name : classes) {
    text += ',';
    text += csv_field(name);
  }
  text += "\n";
  for (int64_t row = 0; row < counts.size(0); ++row) {
    text += csv_field(groups.at(static_cast<size_t>(row)));
    for (int64_t column = 0; column < counts.size(1); ++column) {
      text += ',';
      text += std::to_string(value[row][column]);
    }
    text += "\n";
  }
  return text;
}

std::string confusion_script(const at::Tensor& counts, const std::vector<std::string>& groups,
                             const std::vector<std::string>& classes) {
  const at::Tensor shares = counts.to(at::kDouble) / counts.sum(1, /*keepdim=*/true).clamp_min(1);
  const auto share = shares.accessor<double, 2>();
  const auto value = counts.accessor<int64_t, 2>();
  std::ostringstream out;
  out << "$shares << EOD\n";
  for (int64_t row = 0; row < counts.size(0); ++row) {
    for (int64_t column = 0; column < counts.size(1); ++column) out << (column == 0 ? "" : " ") << share[row][column];
    out << "\n";
  }
  out << "EOD\n"
      << "set terminal pngcairo size 1100,1000 noenhanced font 'DejaVu Sans,11' background 'white'\n"
      << "set title 'of the images of a class (row), the share taken for another (column)'\n"
      << "set palette defined (0 '#ffffff', 0.05 '#d6e6f4', 0.3 '#6aaed6', 1 '#08306b')\n"
      << "set cbrange [0:1]; set size ratio "
      << static_cast<double>(counts.size(0)) / static_cast<double>(counts.size(1))
      << "; set tics scale 0 out nomirror; unset key\n"
      << "set xrange [-0.5:" << counts.size(1) << "-0.5]; set yrange [" << counts.size(0) << "-0.5:-0.5]\n"
      << tics("x", classes) << tics("y", groups);
  if (std::max(counts.size(0), counts.size(1)) <= kNumbered) {
    for (int64_t row = 0; row < counts.size(0); ++row) {
      for (int64_t column = 0; column < counts.size(1); ++column) {
        if (value[row][column] == 0) continue;
        out << "set label '" << value[row][column] << "' at " << column << "," << row << " center front tc rgb '"
            << (share[row][column] > 0.5 ? "white" : "#333333") << "'\n";
      }
    }
  }
  out << "plot $shares matrix with image\n";
  return out.str();
}

}  // namespace vrwkv::eval

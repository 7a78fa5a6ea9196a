#include "train/loggers/learning_curves.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <initializer_list>
#include <iomanip>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>
#include <utility>
#include <vector>

#include "common/gnuplot.h"

namespace vrwkv::train {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxPoints = 1000;
constexpr size_t kFewPoints = 60;  // These are marked by dots: a line through one point is invisible.

/// Rows of an epoch and some values, as many in each; NaN where a line has no such value.
struct Series {
  std::vector<std::vector<double>> rows;

  /// Averages neighbours until at most kMaxPoints rows are left: more than the picture has pixels.
  void thin() {
    const size_t group = (rows.size() + kMaxPoints - 1) / kMaxPoints;
    if (group <= 1) return;
    std::vector<std::vector<double>> means;
    for (size_t first = 0; first < rows.size(); first += group) {
      std::vector<double> mean(rows.front().size());
      for (size_t c = 0; c < mean.size(); ++c) mean[c] = mean_of(first, std::min(first + group, rows.size()), c);
      means.push_back(std::move(mean));
    }
    rows = std::move(means);
  }

  bool has(size_t column) const {
    return std::any_of(rows.begin(), rows.end(), [&](const auto& row) { return std::isfinite(row[column]); });
  }

  /// Least and greatest finite value of a column that has any.
  std::pair<double, double> range(size_t column) const {
    std::pair<double, double> found{std::numeric_limits<double>::infinity(), -std::numeric_limits<double>::infinity()};
    for (const auto& row : rows) {
      if (!std::isfinite(row[column])) continue;
      found = {std::min(found.first, row[column]), std::max(found.second, row[column])};
    }
    return found;
  }

  std::string block(const std::string& name) const {
    std::ostringstream text;
    text << std::setprecision(8) << "$" << name << " << EOD\n";
    for (const auto& row : rows) {
      for (const double value : row) {
        if (std::isfinite(value)) {
          text << value << " ";
        } else {
          text << "NaN ";
        }
      }
      text << "\n";
    }
    text << "EOD\n";
    return text.str();
  }

 private:
  double mean_of(size_t first, size_t last, size_t column) const {
    double sum = 0;
    size_t count = 0;
    for (size_t i = first; i < last; ++i) {
      if (!std::isfinite(rows[i][column])) continue;
      sum += rows[i][column];
      ++count;
    }
    return count > 0 ? sum / static_cast<double>(count) : NAN;
  }
};

struct Metrics {
  Series train;  ///< epoch, loss, lr, grad_norm, data_wait
  Series eval;   ///< epoch, loss, top1, top5, ema_top1
};

double number(const nlohmann::json& line, const char* key) {
  const auto found = line.find(key);
  return found != line.end() && found->is_number() ? found->get<double>() : NAN;
}

/// Lines that are no metrics, such as one that is just being written, are passed over.
Metrics parse(const std::string& metrics_jsonl) {
  Metrics metrics;
  std::istringstream lines(metrics_jsonl);
  for (std::string text; std::getline(lines, text);) {
    const auto line = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (!line.is_object() || !std::isfinite(number(line, "epoch"))) continue;
    const auto kind = line.find("kind");
    if (kind == line.end()) continue;
    const auto row = [&](std::initializer_list<const char*> keys) {
      std::vector<double> values{number(line, "epoch")};
      for (const char* key : keys) values.push_back(number(line, key));
      return values;
    };
    if (*kind == "train") metrics.train.rows.push_back(row({"loss", "lr", "grad_norm", "data_wait"}));
    if (*kind == "eval") metrics.eval.rows.push_back(row({"loss", "top1", "top5", "ema_top1"}));
  }
  metrics.train.thin();
  return metrics;
}

struct Panel {
  std::vector<std::string> settings, curves;
};

std::string curve(const Series& series, const char* block, const char* columns, int style, const char* title) {
  const char* kind = series.rows.size() < kFewPoints ? " with linespoints ls " : " with lines ls ";
  return std::string(block) + " using " + columns + kind + std::to_string(style) + " title '" + title + "'";
}

Panel loss_panel(const Metrics& metrics) {
  Panel panel{{"set ylabel 'loss'"}, {}};
  if (metrics.train.has(1)) panel.curves.push_back(curve(metrics.train, "$train", "1:2", 1, "training loss"));
  if (metrics.eval.has(1)) panel.curves.push_back(curve(metrics.eval, "$eval", "1:2", 2, "evaluation loss"));
  return panel;
}

Panel accuracy_panel(const Metrics& metrics) {
  Panel panel{{"set ylabel 'accuracy (%)'"}, {}};
  if (metrics.eval.has(2)) panel.curves.push_back(curve(metrics.eval, "$eval", "1:3", 2, "top-1"));
  if (metrics.eval.has(4)) {
    panel.curves.push_back(curve(metrics.eval, "$eval", "1:5", 5, "top-1 of the moving average"));
  }
  if (metrics.eval.has(3)) panel.curves.push_back(curve(metrics.eval, "$eval", "1:4", 3, "top-5"));
  // Down to the ten below the least value, up to a little above 100, where a point is still seen whole.
  const double least =
      std::min({metrics.eval.range(2).first, metrics.eval.range(3).first, metrics.eval.range(4).first, 99.0});
  const double bottom = std::max(0.0, 10 * std::floor(least / 10));
  panel.settings.push_back("set yrange [" + std::to_string(bottom) + ":" + std::to_string(100 + 0.03 * (100 - bottom)) +
                           "]");
  return panel;
}

Panel optimizer_panel(const Metrics& metrics) {
  Panel panel;
  // The norm first, so that the thin noisy curve lies below the other.
  if (metrics.train.has(3)) {
    panel.settings.emplace_back("set y2label 'gradient norm'; set y2tics; set border 11");
    // Few large spikes would press all else onto a linear axis.
    const auto [least, most] = metrics.train.range(3);
    if (least > 0 && most > 30 * least) panel.settings.emplace_back("set logscale y2");
    panel.curves.push_back(curve(metrics.train, "$train", "1:4 axes x1y2", 4, "gradient norm (right)"));
  }
  if (metrics.train.has(2)) {
    panel.settings.emplace_back("set ylabel 'learning rate'; set format y '%g'; set yrange [0:*]");
    panel.curves.push_back(curve(metrics.train, "$train", "1:3", 5, "learning rate"));
  } else {
    panel.settings.emplace_back("unset ytics");
  }
  return panel;
}

Panel wait_panel(const Metrics& metrics) {
  Panel panel{{"set ylabel 'waiting for data (%)'; set yrange [0:105]"}, {}};
  if (metrics.train.has(4)) panel.curves.push_back(curve(metrics.train, "$train", "1:(100*$5)", 6, "share of time"));
  return panel;
}

/// All panels share the range of epochs, so that one can look from one to the next.
double last_epoch(const Metrics& metrics) {
  double last = 0;
  for (const auto* series : {&metrics.train, &metrics.eval}) {
    for (const auto& row : series->rows) last = std::max(last, row[0]);
  }
  return last > 0 ? last : 1;
}

/// The last part of the folder's path, whichever way it is written.
std::string run_name(const fs::path& folder) {
  const fs::path path = fs::absolute(folder).lexically_normal();
  return (path.has_filename() ? path : path.parent_path()).filename().string();
}

}  // namespace

std::string learning_curves_script(const std::string& metrics_jsonl, const std::string& title) {
  const Metrics metrics = parse(metrics_jsonl);
  std::vector<Panel> panels{loss_panel(metrics), accuracy_panel(metrics), wait_panel(metrics),
                            optimizer_panel(metrics)};
  std::erase_if(panels, [](const Panel& panel) { return panel.curves.empty(); });
  if (panels.empty()) return "";

  std::ostringstream out;
  out << "# gnuplot learning_curves.gnuplot > learning_curves.png\n";
  if (!metrics.train.rows.empty()) out << metrics.train.block("train");
  if (!metrics.eval.rows.empty()) out << metrics.eval.block("eval");
  out << "set terminal pngcairo size 1000," << 100 + 330 * panels.size()
      << " noenhanced font 'DejaVu Sans,11' background 'white'\n"
      << "set multiplot layout " << panels.size() << ",1 title " << gnuplot_string(title)
      << " font ',14' margins char 12, char 12, char 4, char 4 spacing 0, char 4\n"
      << "set border 3 lc rgb '#444444'; set grid xtics ytics back lt 1 lw 1 lc rgb '#e0e0e0'; set tics nomirror\n"
      << "set key at graph 1, 1.02 right bottom horizontal\n"
      << "set xrange [0:" << 1.01 * last_epoch(metrics) << "]; set offsets 0, 0, graph 0.05, graph 0.05\n"
      << "set style line 1 lc rgb '#1f77b4' lw 1.5 pt 7 ps 0.7\nset style line 2 lc rgb '#d62728' lw 2 pt 7 ps 0.7\n"
      << "set style line 3 lc rgb '#ff9e4a' lw 2 pt 7 ps 0.7\nset style line 4 lc rgb '#b0b0b0' lw 1 pt 7 ps 0.6\n"
      << "set style line 5 lc rgb '#2ca02c' lw 2 pt 7 ps 0.7\n"
      << "set style line 6 lc rgb '#9467bd' lw 1.5 pt 7 ps 0.7\n";
  for (size_t i = 0; i < panels.size(); ++i) {
    if (i + 1 == panels.size()) out << "set xlabel 'epoch'\n";
    for (const auto& setting : panels[i].settings) out << setting << "\n";
    for (size_t c = 0; c < panels[i].curves.size(); ++c) out << (c == 0 ? "plot " : ", ") << panels[i].curves[c];
    out << "\n";
  }
  out << "unset multiplot\n";
  return out.str();
}

void draw_learning_curves(const fs::path& folder) {
  std::ostringstream metrics;
  metrics << std::ifstream(folder / "metrics.jsonl").rdbuf();
  const std::string script = learning_curves_script(metrics.str(), run_name(folder));
  if (!script.empty()) draw_with_gnuplot(script, folder / "learning_curves.png");
}

}  // namespace vrwkv::train

#include "eval/report.h"

#include <algorithm>
#include <cstdint>
#include <iomanip>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "common/gnuplot.h"
#include "eval/csv_field.h"

namespace vrwkv::eval {
namespace {

constexpr int kIndent = 2;

nlohmann::ordered_json counts_json(const AccuracyCounts& counts) {
  return {{"images", counts.images},
          {"correct1", counts.correct1},
          {"correct5", counts.correct5},
          {"top1", counts.top1()},
          {"top5", counts.top5()}};
}

constexpr std::size_t kNamedBars = 60, kNameLength = 24;
constexpr const char* kTerminal = "set terminal pngcairo noenhanced font 'DejaVu Sans,11' background 'white' ";
constexpr const char* kGrid =
    "set border 3 lc rgb '#444444'; set grid ytics back lt 1 lw 1 lc rgb '#e0e0e0'; set tics nomirror\n";

const char* name_of(WeightSet weights) { return weights == WeightSet::ema ? "ema" : "raw"; }

nlohmann::ordered_json as_json(const Report& report, const std::vector<std::string>& names) {
  const auto& [source, accuracy] = report;
  nlohmann::ordered_json json = {{"config", source.config},
                                 {"checkpoint", source.checkpoint},
                                 {"weights", name_of(source.weights)},
                                 {"size", source.transform.size},
                                 {"resize", source.transform.resize},
                                 {"tta", source.tta.empty() ? "none" : source.tta}};
  json.update(counts_json(accuracy));
  json["loss"] = accuracy.loss;
  for (std::size_t i = 0; i < std::min(names.size(), accuracy.classes.size()); ++i) {
    nlohmann::ordered_json of_class = {{"label", i}, {"name", names[i]}};
    of_class.update(counts_json(accuracy.classes[i]));
    json["classes"].push_back(std::move(of_class));
  }
  return json;
}

}  // namespace

std::string summary_line(const Accuracy& accuracy) {
  std::ostringstream text;
  text << std::fixed << std::setprecision(2) << "top-1 " << accuracy.top1() << "  top-5 " << accuracy.top5();
  return text.str();
}

std::string class_table(const Accuracy& accuracy, const std::vector<std::string>& names) {
  std::size_t width = std::string("class").size();
  for (const std::string& name : names) width = std::max(width, name.size());
  std::ostringstream text;
  const auto row = [&](const auto& name, const auto&... cells) {
    text << std::left << std::setw(static_cast<int>(width)) << name << std::right;
    ((text << std::setw(10) << cells), ...);
    text << "\n";
  };
  text << std::fixed << std::setprecision(2);
  row("class", "images", "correct1", "correct5", "top-1", "top-5");
  for (std::size_t i = 0; i < accuracy.classes.size(); ++i) {
    const AccuracyCounts& counts = accuracy.classes[i];
    row(i < names.size() ? names[i] : std::to_string(i), counts.images, counts.correct1, counts.correct5, counts.top1(),
        counts.top5());
  }
  return text.str();
}

std::string class_csv(const Accuracy& accuracy, const std::vector<std::string>& names) {
  std::ostringstream text;
  text << "label,class,images,correct1,correct5,top1,top5\n";
  for (std::size_t i = 0; i < std::min(names.size(), accuracy.classes.size()); ++i) {
    const AccuracyCounts& counts = accuracy.classes[i];
    text << i << "," << csv_field(names[i]) << "," << counts.images << "," << counts.correct1 << "," << counts.correct5
         << "," << counts.top1() << "," << counts.top5() << "\n";
  }
  return text.str();
}

std::string class_script(const Accuracy& accuracy, const std::vector<std::string>& names) {
  std::vector<std::size_t> order;
  for (std::size_t i = 0; i < std::min(names.size(), accuracy.classes.size()); ++i) {
    if (accuracy.classes[i].images > 0) order.push_back(i);
  }
  std::ranges::stable_sort(order, {}, [&](std::size_t i) { return accuracy.classes[i].top1(); });
  std::ostringstream out;
  out << "$classes << EOD\n";
  for (const std::size_t i : order) {
    out << gnuplot_string(names[i], kNameLength) << " " << accuracy.classes[i].top1() << "\n";
  }
  out << "EOD\n"
      << kTerminal << "size " << std::clamp<std::size_t>(200 + 24 * order.size(), 600, 1600)
      << ",500\nset title 'top-1 of each class, % (dashed: of all images)'\n"
      << "set yrange [0:100]; set xrange [-1:" << order.size()
      << "]; set style fill solid; set boxwidth 0.8; unset key\n"
      << kGrid << "set arrow from graph 0, first " << accuracy.top1() << " to graph 1, first " << accuracy.top1()
      << " nohead front dt 2 lc rgb '#d62728'\n";
  const bool named = order.size() <= kNamedBars;
  out << (named ? "set xtics rotate by 55 right\n" : "set xtics\nset xlabel 'classes, the worst first'\n")
      << "plot $classes using " << (named ? "0:2:xtic(1)" : "0:2") << " with boxes lc rgb '#1f77b4'\n";
  return out.str();
}

std::string report_json(const Report& report, const std::vector<std::string>& names) {
  return as_json(report, names).dump(kIndent, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

std::string reports_json(const std::vector<Report>& reports) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const Report& report : reports) list.push_back(as_json(report, {}));
  return list.dump(kIndent, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

std::string reports_csv(const std::vector<Report>& reports) {
  std::ostringstream text;
  text << "checkpoint,weights,size,resize,tta,images,correct1,correct5,top1,top5,loss\n";
  for (const auto& [source, accuracy] : reports) {
    text << csv_field(source.checkpoint) << "," << name_of(source.weights) << "," << source.transform.size << ","
         << source.transform.resize << "," << (source.tta.empty() ? "none" : source.tta) << "," << accuracy.images
         << "," << accuracy.correct1 << "," << accuracy.correct5 << "," << accuracy.top1() << "," << accuracy.top5()
         << "," << accuracy.loss << "\n";
  }
  return text.str();
}

std::string size_plot_script(const std::vector<Report>& reports) {
  std::vector<std::string> checkpoints;
  for (const Report& report : reports) {
    if (std::ranges::find(checkpoints, report.source.checkpoint) == checkpoints.end()) {
      checkpoints.push_back(report.source.checkpoint);
    }
  }
  std::ostringstream out, plots;
  for (std::size_t i = 0; i < checkpoints.size(); ++i) {
    std::map<int64_t, double> curve;
    for (const auto& [source, accuracy] : reports) {
      if (source.checkpoint == checkpoints[i]) curve[source.transform.size] = accuracy.top1();
    }
    out << "$curve" << i << " << EOD\n";
    for (const auto& [size, top1] : curve) out << size << " " << top1 << "\n";
    out << "EOD\n";
    plots << (i == 0 ? "plot " : ", ") << "$curve" << i << " using 1:2:xtic(1) with linespoints lw 2 pt 7 ps 0.9 title "
          << gnuplot_string(checkpoints[i]);
  }
  out << kTerminal << "size 900,600\nset title 'accuracy over the size of the input'\n"
      << "set xlabel 'side of the input, pixels'; set ylabel 'top-1, %'; set offsets graph 0.05, graph 0.05, graph "
         "0.08, "
         "graph 0.05\n"
      << kGrid << "set key " << (checkpoints.size() > 1 ? "tmargin left vertical Left reverse" : "off") << "\n"
      << plots.str() << "\n";
  return out.str();
}

}  // namespace vrwkv::eval

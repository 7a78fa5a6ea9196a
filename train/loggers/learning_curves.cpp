#include "train/loggers/learning_curves.h"

#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cmath>
#include <cstring>
#include <fstream>
#include <mutex>
#include <nlohmann/json.hpp>
#include <sstream>
#include <vector>

#include "common/atomic_file.h"
#include "common/log.h"

namespace vrwkv::train {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxPoints = 1000;

/// Named columns over epochs; NaN where a line has no such value.
struct Series {
  std::vector<std::array<double, 4>> rows;

  /// Averages neighbours until at most kMaxPoints rows are left: more than the picture has pixels.
  void thin() {
    const size_t group = (rows.size() + kMaxPoints - 1) / kMaxPoints;
    if (group <= 1) return;
    std::vector<std::array<double, 4>> means;
    for (size_t first = 0; first < rows.size(); first += group) {
      const size_t count = std::min(group, rows.size() - first);
      std::array<double, 4> mean{};
      for (size_t i = first; i < first + count; ++i) {
        for (size_t c = 0; c < mean.size(); ++c) mean[c] += rows[i][c] / static_cast<double>(count);
      }
      means.push_back(mean);
    }
    rows = std::move(means);
  }

  std::string block(const std::string& name) const {
    std::ostringstream text;
    text << "$" << name << " << EOD\n";
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
};

double number(const nlohmann::json& line, const char* key) {
  const auto found = line.find(key);
  return found != line.end() && found->is_number() ? found->get<double>() : NAN;
}

/// gnuplot's double-quoted strings: backslash and quote are escaped; the enhanced mode is off.
std::string quoted(const std::string& text) {
  std::string result = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') result += '\\';
    result += c;
  }
  return result + "\"";
}

/// Runs gnuplot on a script; returns its exit status, or -1 when it could not be started.
int run_gnuplot(const fs::path& script) {
  std::string program = "gnuplot", file = script.string();
  const std::array<char*, 3> arguments{program.data(), file.data(), nullptr};
  pid_t child = 0;
  if (::posix_spawnp(&child, program.c_str(), nullptr, nullptr, arguments.data(), environ) != 0) return -1;
  int status = 0;
  while (::waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) return -1;
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

}  // namespace

std::string learning_curves_script(const std::string& metrics_jsonl, const std::string& title, const std::string& png) {
  Series train, eval;
  std::istringstream lines(metrics_jsonl);
  for (std::string text; std::getline(lines, text);) {
    const auto line = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (!line.is_object()) continue;
    if (line.value("kind", "") == "train") {
      train.rows.push_back({number(line, "epoch"), number(line, "loss"), number(line, "lr"), number(line, "grad_norm")});
    } else if (line.value("kind", "") == "eval") {
      eval.rows.push_back({number(line, "epoch"), number(line, "loss"), number(line, "top1"), number(line, "top5")});
    }
  }
  if (train.rows.empty() && eval.rows.empty()) return "";
  train.thin();
  const bool has_train = !train.rows.empty(), has_eval = !eval.rows.empty();

  std::ostringstream out;
  if (has_train) out << train.block("train");
  if (has_eval) out << eval.block("eval");
  out << "set terminal pngcairo size 1000,1100 noenhanced font 'DejaVu Sans,10'\n"
      << "set output " << quoted(png) << "\n"
      << "set multiplot layout 3,1 title " << quoted(title) << " font ',13' margins 0.09,0.90,0.06,0.94 spacing 0.07\n"
      << "set grid lc rgb '#dddddd'\nset key top right opaque\nset xrange [0:*]\nset tics nomirror\n"
      << "set style line 1 lc rgb '#1f77b4' lw 1.5 pt 7 ps 0.6\nset style line 2 lc rgb '#d62728' lw 2 pt 7 ps 0.6\n"
      << "set style line 3 lc rgb '#2ca02c' lw 2 pt 7 ps 0.6\n";
  const auto panel = [&](const std::string& label, const std::vector<std::string>& curves) {
    out << "set ylabel " << quoted(label) << "\nplot ";
    for (size_t i = 0; i < curves.size(); ++i) out << (i > 0 ? ", " : "") << curves[i];
    out << "\n";
  };
  std::vector<std::string> losses;
  // Few points are drawn as points too: a line through one point is invisible.
  const std::string train_style = train.rows.size() < 50 ? " with linespoints ls 1 " : " with lines ls 1 ";
  if (has_train) losses.push_back("$train using 1:2" + train_style + "title 'training'");
  if (has_eval) losses.emplace_back("$eval using 1:2 with linespoints ls 2 title 'evaluation'");
  panel("loss", losses);
  if (has_eval) {
    out << "set key bottom right opaque\nset yrange [*:100]\n";
    panel("accuracy (%)", {"$eval using 1:3 with linespoints ls 2 title 'top-1'",
                           "$eval using 1:4 with linespoints ls 3 title 'top-5'"});
    out << "set yrange [*:*]\nset key top right opaque\n";
  }
  out << "set xlabel 'epoch'\n";
  if (has_train) {
    out << "set y2tics\nset y2label 'gradient norm'\nset format y '%.1e'\nset yrange [0:*]\nset y2range [0:*]\n";
    panel("learning rate", {"$train using 1:3" + train_style + "title 'learning rate'",
                            "$train using 1:4 axes x1y2 with lines lc rgb '#999999' title 'gradient norm'"});
  }
  out << "unset multiplot\n";
  return out.str();
}

void draw_learning_curves(const fs::path& folder) {
  std::ostringstream metrics;
  metrics << std::ifstream(folder / "metrics.jsonl").rdbuf();
  const fs::path png = folder / "learning_curves.png";
  const fs::path unfinished = png.string() + std::string(AtomicFile::kTemporarySuffix);
  const std::string script =
      learning_curves_script(metrics.str(), fs::absolute(folder).filename().string(), unfinished.string());
  if (script.empty()) return;
  const fs::path script_path = folder / "learning_curves.gnuplot";
  AtomicFile file(script_path);
  file.write(script);
  file.commit();
  const int status = run_gnuplot(script_path);
  static std::once_flag missing;
  if (status == -1 || status == 127) {
    std::call_once(missing, [] {
      log::warn("gnuplot is not installed (Debian package gnuplot-nox): learning_curves.png is not drawn");
    });
    return;
  }
  std::error_code problem;
  if (status == 0) fs::rename(unfinished, png, problem);
  if (status != 0 || problem) log::warn("gnuplot could not draw " + png.string());
}

}  // namespace vrwkv::train

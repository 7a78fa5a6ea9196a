#include "eval/annotate.h"

#include <algorithm>
#include <sstream>

#include "common/atomic_file.h"
#include "common/gnuplot.h"
#include "data/read_image.h"
#include "data/resize.h"

namespace vrwkv::eval {
namespace {

constexpr int64_t kLongSide = 640, kShortSide = 16;  ///< Of the image in the picture, pixels.
constexpr int64_t kLeastWidth = 420, kLine = 26;     ///< Of the picture, and of a line of text.
constexpr size_t kNameLength = 40;

/// The image so that its long side is kLongSide; a very narrow one keeps kShortSide.
at::Tensor shown(const at::Tensor& image) {
  const int64_t height = image.size(0), width = image.size(1), side = std::max(height, width);
  const auto scaled = [&](int64_t length) { return std::max(kShortSide, length * kLongSide / side); };
  return data::resize(image, scaled(height), scaled(width));
}

std::string script(const ImagePrediction& prediction, const std::vector<std::string>& names, const at::Tensor& image,
                   const std::string& pixels) {
  const int64_t height = image.size(0), width = image.size(1), lines = std::ssize(prediction.top);
  const int64_t whole_width = std::max(width, kLeastWidth), whole_height = height + kLine * lines + kLine / 2;
  const auto at_x = [&](double x) { return x / static_cast<double>(whole_width); };
  const auto at_y = [&](double y) { return 1 - y / static_cast<double>(whole_height); };
  std::ostringstream out;
  out << "set terminal pngcairo size " << whole_width << "," << whole_height
      << " noenhanced font 'DejaVu Sans,11' background 'white'\n"
      << "unset border; unset tics; unset key\n"
      << "set lmargin at screen 0; set rmargin at screen " << at_x(static_cast<double>(width))
      << "; set tmargin at screen 1; set bmargin at screen " << at_y(static_cast<double>(height)) << "\n"
      << "set xrange [-0.5:" << width << "-0.5]; set yrange [" << height << "-0.5:-0.5]\n";
  for (int64_t i = 0; i < lines; ++i) {
    const auto& [label, probability] = prediction.top[static_cast<size_t>(i)];
    const double top = static_cast<double>(height + kLine * i) + kLine / 4.0;
    out << "set object rectangle from screen 0," << at_y(top + kLine - 4) << " to screen "
        << std::max(0.002, probability) << "," << at_y(top) << " fc rgb '#9ecae1' fs solid noborder behind\n"
        << "set label sprintf('%5.1f %%', " << 100 * probability << ") at screen " << at_x(60) << ","
        << at_y(top + kLine / 2.0 - 2) << " right front\n"
        << "set label " << gnuplot_string(names[static_cast<size_t>(label)], kNameLength) << " at screen " << at_x(72)
        << "," << at_y(top + kLine / 2.0 - 2) << " front\n";
  }
  out << "plot " << gnuplot_string(pixels) << " binary array=(" << width << "," << height
      << ") format='%uchar%uchar%uchar' using 1:2:3 with rgbimage\n";
  return out.str();
}

}  // namespace

void draw_annotated(const ImagePrediction& prediction, const std::vector<std::string>& names,
                    const std::filesystem::path& png) {
  const at::Tensor image = shown(data::read_image(prediction.path)).contiguous();
  const std::filesystem::path pixels = png.string() + ".pixels" + std::string(AtomicFile::kTemporarySuffix);
  AtomicFile file(pixels);
  file.write(image.const_data_ptr(), image.nbytes());
  file.commit();
  draw_with_gnuplot(script(prediction, names, image, pixels.string()), png, PlotScript::remove);
  std::filesystem::remove(pixels);
}

std::map<std::string, std::string> annotated_names(const std::vector<std::string>& paths) {
  std::map<std::string, std::string> names = input_keys(paths);
  for (auto& [path, name] : names) {
    std::ranges::replace(name, '/', '_');
    name += ".png";
  }
  return names;
}

}  // namespace vrwkv::eval

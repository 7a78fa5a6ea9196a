#include "eval/report.h"

#include <algorithm>
#include <iomanip>
#include <iostream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "common/atomic_file.h"

namespace vrwkv::eval {
namespace {

std::string class_name(const std::vector<std::string>& classes, size_t label) {
  return label < classes.size() ? classes[label] : std::to_string(label);
}

}  // namespace

std::string summary_line(const Accuracy& accuracy) {
  std::ostringstream text;
  text << std::fixed << std::setprecision(2) << "top-1 " << accuracy.top1() << "  top-5 " << accuracy.top5();
  return text.str();
}

std::string class_table(const Accuracy& accuracy, const std::vector<std::string>& classes) {
  size_t width = 5;
  for (size_t c = 0; c < accuracy.class_images.size(); ++c) width = std::max(width, class_name(classes, c).size());
  std::ostringstream text;
  text << std::left << std::setw(static_cast<int>(width)) << "class" << std::right << "  images   top-1   top-5\n"
       << std::fixed << std::setprecision(2);
  for (size_t c = 0; c < accuracy.class_images.size(); ++c) {
    const int64_t images = accuracy.class_images[c];
    text << std::left << std::setw(static_cast<int>(width)) << class_name(classes, c) << std::right << std::setw(8)
         << images << std::setw(8) << Accuracy::share(accuracy.class_correct1[c], images) << std::setw(8)
         << Accuracy::share(accuracy.class_correct5[c], images) << "\n";
  }
  return text.str();
}

std::string to_json(const Accuracy& accuracy, const std::vector<std::string>& classes, bool per_class,
                    const std::string& config, const std::string& checkpoint) {
  nlohmann::ordered_json json{{"config", config},
                              {"checkpoint", checkpoint},
                              {"images", accuracy.images},
                              {"correct1", accuracy.correct1},
                              {"correct5", accuracy.correct5},
                              {"top1", accuracy.top1()},
                              {"top5", accuracy.top5()},
                              {"loss", accuracy.loss}};
  if (per_class) {
    auto rows = nlohmann::ordered_json::array();
    for (size_t c = 0; c < accuracy.class_images.size(); ++c) {
      rows.push_back({{"label", c},
                      {"name", class_name(classes, c)},
                      {"images", accuracy.class_images[c]},
                      {"correct1", accuracy.class_correct1[c]},
                      {"correct5", accuracy.class_correct5[c]}});
    }
    json["classes"] = rows;
  }
  return json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

void write_result(const std::string& target, const std::string& text) {
  if (target == "-") {
    std::cout << text;
    return;
  }
  AtomicFile file(target);
  file.write(text);
  file.commit();
}

}  // namespace vrwkv::eval

#include "eval/label_set.h"

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <stdexcept>

#include "common/errors.h"

namespace vrwkv::eval {
namespace {

using nlohmann::json;
using Labels = std::vector<int64_t>;

json parse(const std::filesystem::path& file) {
  std::ifstream stream(file);
  if (!stream) throw UsageError("--labels: cannot read " + file.string());
  try {
    return json::parse(stream);
  } catch (const json::exception& error) {
    throw UsageError(file.string() + ": not JSON: " + error.what());
  }
}

/// One number, or a list of them.
Labels labels_from(const json& value, const std::string& where, int64_t classes) {
  Labels labels;
  for (const json& item : value.is_array() ? value : json::array({value})) {
    if (!item.is_number_integer() || item < 0 || item >= classes) {
      throw UsageError(where + ": expected classes of the model, integers from 0 to " + std::to_string(classes - 1) +
                       ", got " + item.dump());
    }
    labels.push_back(item);
  }
  std::ranges::sort(labels);
  labels.erase(std::unique(labels.begin(), labels.end()), labels.end());
  return labels;
}

/// `archive.tar:folder/name.JPEG` is `name`.
std::string stem(const std::string& name) {
  return std::filesystem::path(name.substr(name.rfind(':') + 1)).stem().string();
}

/// ImageNet-ReaL's real.json: entry i is of ILSVRC2012_val_<i + 1>.
std::string real_name(size_t index) {
  char name[40];
  std::snprintf(name, sizeof(name), "ILSVRC2012_val_%08zu", index + 1);
  return name;
}

}  // namespace

LabelSet::LabelSet(const std::filesystem::path& file, const data::Dataset& dataset, int64_t classes)
    : file_(file.string()) {
  const json content = parse(file);
  if (content.is_array()) {
    for (size_t i = 0; i < content.size(); ++i) {
      of_image_[real_name(i)] = labels_from(content[i], file_ + ": entry " + std::to_string(i), classes);
    }
    return;
  }
  if (!content.is_object()) throw UsageError(file_ + ": expected a JSON object, or a list of lists as of ReaL");
  for (const auto& [key, value] : content.items()) {
    if (key != "classes" && key != "images" && key != "only") {
      throw UsageError(file_ + ": unknown key '" + key + "'; there are classes, images and only");
    }
  }
  for (const char* key : {"classes", "images"}) {
    if (content.contains(key) && !content[key].is_object()) {
      throw UsageError(file_ + ": " + key + ": expected an object, names and their classes of the model");
    }
  }
  if (content.contains("only") && !content["only"].is_boolean()) {
    throw UsageError(file_ + ": only: expected true or false, got " + content["only"].dump());
  }
  const json images = content.value("images", json::object());
  for (const auto& [name, value] : images.items()) {
    const Labels labels = labels_from(value, file_ + ": images: " + name, classes);
    if (!of_image_.emplace(stem(name), labels).second) {
      throw UsageError(file_ + ": images: two entries are of the image " + stem(name));
    }
  }
  if (content.contains("classes")) {
    std::map<std::string, Labels> by_name;
    for (const auto& [name, value] : content["classes"].items()) {
      by_name[name] = labels_from(value, file_ + ": classes: " + name, classes);
    }
    for (const std::string& name : dataset.classes()) {
      const auto found = by_name.find(name);
      if (found == by_name.end()) throw UsageError(file_ + ": classes: the data's class '" + name + "' is missing");
      of_class_.push_back(found->second);
    }
  }
  if (content.value("only", false)) {
    std::set<int64_t> all;
    for (const Labels& labels : of_class_) all.insert(labels.begin(), labels.end());
    for (const auto& [name, labels] : of_image_) all.insert(labels.begin(), labels.end());
    if (all.empty()) throw UsageError(file_ + ": only: there are neither classes nor images to choose from");
    only_.assign(all.begin(), all.end());
  }
  if (of_class_.empty() && of_image_.empty()) throw UsageError(file_ + ": expected classes, images, or both");
}

const std::vector<int64_t>& LabelSet::right(int64_t label, const std::string& name) const {
  if (of_image_.empty()) return of_class_.at(static_cast<size_t>(label));
  const auto found = of_image_.find(stem(name));
  if (found != of_image_.end()) return found->second;
  throw std::runtime_error(name + ": " + file_ + " has no entry '" + stem(name) + "' under images");
}

}  // namespace vrwkv::eval

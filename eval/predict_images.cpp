#include "eval/predict_images.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "data/image_codec.h"
#include "data/read_image.h"
#include "data/transforms.h"
#include "eval/predict_tensor.h"

namespace vrwkv::eval {
namespace {

std::vector<ClassProbability> top_classes(const at::Tensor& probabilities, int64_t top_k) {
  const auto [values, labels] = at::sort(probabilities, /*stable=*/true, /*dim=*/0, /*descending=*/true);
  std::vector<ClassProbability> top;
  for (int64_t i = 0; i < std::min(top_k, probabilities.size(0)); ++i) {
    top.push_back({labels[i].item<int64_t>(), values[i].item<double>()});
  }
  return top;
}

}  // namespace

void predict_images(VrwkvClassifier model, const std::vector<std::string>& paths, const config::RunConfig& config,
                    const Precision& precision, int64_t top_k, const PredictionSinks& sinks) {
  std::vector<std::string> batch_paths;
  std::vector<at::Tensor> views;
  const auto predict_batch = [&] {
    if (views.empty()) return;
    const at::Tensor inputs = data::normalize(at::stack(views), config.data.normalize, weights_dtype(precision.dtype));
    const at::Tensor probabilities = predict_logits(model, inputs, precision).to(at::kDouble).softmax(1);
    for (int64_t i = 0; i < inputs.size(0); ++i) {
      const std::string& path = batch_paths[static_cast<std::size_t>(i)];
      if (sinks.network_input) sinks.network_input(path, inputs[i].to(at::kFloat));
      sinks.predicted({path, top_classes(probabilities[i], top_k)});
    }
    batch_paths.clear();
    views.clear();
  };
  for (const std::string& path : paths) {
    try {
      views.push_back(data::eval_view(data::read_image(path), config.data.eval_transform));
      batch_paths.push_back(path);
    } catch (const data::ImageError& error) {
      sinks.unreadable(path, error.what());
    }
    if (std::ssize(views) == config.eval.batch_size) predict_batch();
  }
  predict_batch();
}

std::map<std::string, std::string> input_keys(const std::vector<std::string>& paths) {
  std::map<std::string, std::set<std::string>> by_name;
  for (const std::string& path : paths) by_name[std::filesystem::path(path).filename().string()].insert(path);
  std::map<std::string, std::string> keys;
  for (const auto& [name, same_name] : by_name) {
    for (const std::string& path : same_name) keys[path] = same_name.size() == 1 ? name : path;
  }
  return keys;
}

}  // namespace vrwkv::eval

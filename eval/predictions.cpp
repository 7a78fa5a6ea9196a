#include "eval/predictions.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <fstream>
#include <iomanip>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>
#include <stdexcept>

#include "common/errors.h"
#include "data/image_codec.h"
#include "data/transforms.h"
#include "vrwkv/checkpoint/safetensors.h"

namespace vrwkv::eval {
namespace {

at::Tensor read_image(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error(path + ": cannot be opened");
  std::ostringstream bytes;
  bytes << file.rdbuf();
  const std::string text = bytes.str();
  try {
    return data::decode_image({reinterpret_cast<const std::uint8_t*>(text.data()), text.size()});
  } catch (const data::ImageError& error) {
    throw std::runtime_error(path + ": " + error.what());
  }
}

std::string base_name(const std::string& path) { return std::filesystem::path(path).filename().string(); }

}  // namespace

Prediction predict_image(LoadedClassifier& loaded, const std::string& path, int64_t top_k, const config::RunConfig& config,
                         const Precision& precision) {
  const at::Tensor view = data::eval_view(read_image(path), config.data.eval_transform);
  const at::Tensor images = data::normalize(view.unsqueeze(0).to(precision.device), config.data.normalize,
                                            weights_dtype(precision.dtype));
  const at::Tensor probabilities = predict(loaded.model, images, precision)[0].to(at::kDouble).softmax(0).cpu();
  const auto [values, labels] = probabilities.topk(std::min(top_k, probabilities.size(0)));
  Prediction prediction{path, images[0].cpu(), {}};
  for (int64_t i = 0; i < values.size(0); ++i) {
    const auto label = labels[i].item<int64_t>();
    const bool named = static_cast<size_t>(label) < loaded.classes.size();
    prediction.candidates.push_back({label,
                                     named ? loaded.classes[static_cast<size_t>(label)] : "class " + std::to_string(label),
                                     values[i].item<double>()});
  }
  return prediction;
}

std::string to_text(const Prediction& prediction) {
  size_t width = 0;
  for (const auto& candidate : prediction.candidates) width = std::max(width, candidate.name.size());
  std::ostringstream text;
  text << prediction.path << "\n" << std::fixed << std::setprecision(4);
  for (const auto& candidate : prediction.candidates) {
    text << "  " << std::left << std::setw(static_cast<int>(width)) << candidate.name << "  " << candidate.probability
         << "\n";
  }
  return text.str();
}

std::string to_json(const std::vector<Prediction>& predictions) {
  auto all = nlohmann::ordered_json::array();
  for (const auto& prediction : predictions) {
    auto candidates = nlohmann::ordered_json::array();
    for (const auto& candidate : prediction.candidates) {
      candidates.push_back(
          {{"label", candidate.label}, {"name", candidate.name}, {"probability", candidate.probability}});
    }
    all.push_back({{"image", prediction.path}, {"classes", candidates}});
  }
  return all.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

void save_inputs(const std::string& file, const std::vector<Prediction>& predictions) {
  std::map<std::string, int> uses;
  for (const auto& prediction : predictions) ++uses[base_name(prediction.path)];
  std::map<std::string, at::Tensor> inputs;
  for (const auto& prediction : predictions) {
    const std::string name = base_name(prediction.path);
    inputs[uses[name] > 1 ? prediction.path : name] = prediction.input;
  }
  write_safetensors(file, inputs);
}

void predict_file(LoadedClassifier& loaded, const std::string& input, const std::string& output,
                  const Precision& precision) {
  if (!std::filesystem::exists(input)) throw UsageError("--input: there is no file " + input);
  const Safetensors file = read_safetensors(input);
  const auto images = file.tensors.find("input");
  if (images == file.tensors.end()) {
    std::string names;
    for (const auto& [name, tensor] : file.tensors) names += (names.empty() ? "" : ", ") + name;
    throw std::runtime_error(input + ": there is no tensor 'input' (the file holds: " + names + ")");
  }
  if (!images->second.is_floating_point()) {
    throw std::runtime_error(input + ": tensor 'input' must be float32, normalised, [B, 3, H, W]; got " +
                             c10::toString(images->second.scalar_type()));
  }
  const at::Tensor on_device = images->second.to(precision.device, weights_dtype(precision.dtype));
  write_safetensors(output, {{"logits", predict(loaded.model, on_device, precision)}});
}

}  // namespace vrwkv::eval

#pragma once

#include <ATen/ATen.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "config/run_config.h"
#include "data/dataset.h"
#include "data/image_codec.h"
#include "vrwkv/vrwkv_classifier.h"

namespace vrwkv::eval {

/// Images in memory, given as their encoded bytes and labels.
class MemoryDataset final : public data::Dataset {
 public:
  struct Sample {
    std::vector<std::uint8_t> bytes;
    int64_t label;
  };

  MemoryDataset(std::vector<Sample> samples, std::vector<std::string> classes, bool has_class_names = true)
      : samples_(std::move(samples)), classes_(std::move(classes)), has_class_names_(has_class_names) {}

  int64_t size() const override { return std::ssize(samples_); }
  data::EncodedSample get(int64_t index) const override {
    const Sample& sample = samples_.at(static_cast<std::size_t>(index));
    return {sample.bytes, nullptr, sample.label, "image-" + std::to_string(index)};
  }
  int64_t label(int64_t index) const override { return samples_.at(static_cast<std::size_t>(index)).label; }
  const std::vector<std::string>& classes() const override { return classes_; }
  bool has_class_names() const override { return has_class_names_; }

 private:
  std::vector<Sample> samples_;
  std::vector<std::string> classes_;
  bool has_class_names_;
};

/// `count` PNGs of noise, of several sizes, with random labels below `classes`.
inline std::vector<MemoryDataset::Sample> random_samples(int64_t count, int64_t classes) {
  std::vector<MemoryDataset::Sample> samples;
  for (int64_t i = 0; i < count; ++i) {
    const at::Tensor image = at::randint(256, {8 + i % 5, 9 + i % 3, 3}, at::kByte);
    samples.push_back({data::encode_png(image), at::randint(classes, {1}).item<int64_t>()});
  }
  return samples;
}

/// A very small network of `classes` classes, on images of 8 x 8, with every kind of dropout.
inline config::RunConfig small_config(int64_t classes) {
  config::RunConfig config;
  config.model.num_classes = classes;
  config.model.backbone.img_size = 8;
  config.model.backbone.patch_size = 4;
  config.model.backbone.embed_dims = 16;
  config.model.backbone.depth = 2;
  config.model.backbone.drop_rate = 0.5;
  config.model.backbone.drop_path_rate = 0.5;
  config.data.eval_transform = {.resize = 9, .size = 8};
  config.data.workers = 2;
  return config;
}

/// The network of small_config, its head made large enough for clear answers.
inline VrwkvClassifier small_classifier(const config::RunConfig& config) {
  VrwkvClassifier model(config.model);
  const at::NoGradGuard no_grad;
  for (at::Tensor& parameter : model->head->parameters()) parameter.mul_(20);
  return model;
}

}  // namespace vrwkv::eval

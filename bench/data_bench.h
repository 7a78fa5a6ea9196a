#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "config/run_config.h"
#include "data/dataset.h"

namespace vrwkv::bench {

/// A part of the work for an image, on one thread.
struct DataStage {
  std::string name;
  double seconds = 0;  ///< For an image.
};

/// What one thread does for the images of a data set.
struct DataRate {
  std::vector<DataStage> stages;
  double images_per_s = 0;
};

/// One thread: read, decode (of what the crop needs), crop with resize and flip, augmentation. Each is the difference
/// between a run that ends with it and one that ends before it; the rate is that of the whole.
DataRate measure_training_data(const data::Dataset& dataset, const config::RunConfig& config, double seconds);

/// One thread: read, decode, resize with crop.
DataRate measure_evaluation_data(const data::Dataset& dataset, const config::RunConfig& config, double seconds);

/// Images a second of a data::Loader with `workers` threads, batches and all.
double measure_loader(const std::shared_ptr<const data::Dataset>& dataset, const config::RunConfig& config,
                      int64_t workers, double seconds);

nlohmann::ordered_json data_rate_json(const DataRate& rate);

/// A line for each stage: milliseconds, share and a bar of it.
std::string data_rate_text(const std::string& title, const DataRate& rate);

}  // namespace vrwkv::bench

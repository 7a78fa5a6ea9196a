#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "config/run_config.h"
#include "data/dataset.h"
#include "data/gpu/device_times.h"

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

/// What a data::Loader delivers, and what a GPU did for it, if one did.
struct LoaderRate {
  double images_per_s = 0;
  std::optional<data::gpu::DeviceTimes> gpu;
};

/// A data::Loader with `workers` threads, batches and all; with `device` as data.decode says.
LoaderRate measure_loader(const std::shared_ptr<const data::Dataset>& dataset, const config::RunConfig& config,
                          int64_t workers, double seconds, at::Device device);

/// Milliseconds for an image in each of the GPU's queues, and what share of the images it decoded.
nlohmann::ordered_json device_times_json(const data::gpu::DeviceTimes& times);

/// The same as a line.
std::string device_times_text(const data::gpu::DeviceTimes& times);

nlohmann::ordered_json data_rate_json(const DataRate& rate);

/// A line for each stage: milliseconds, share and a bar of it.
std::string data_rate_text(const std::string& title, const DataRate& rate);

}  // namespace vrwkv::bench

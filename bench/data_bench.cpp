#include "bench/data_bench.h"

#include <algorithm>
#include <chrono>
#include <functional>
#include <iomanip>
#include <sstream>

#include "data/gpu/make_stage.h"
#include "data/image_source.h"
#include "data/loader.h"
#include "data/sample_reader.h"
#include "data/touch.h"
#include "data/transforms.h"

namespace vrwkv::bench {
namespace {

using Clock = std::chrono::steady_clock;
using data::EncodedSample;
using data::Generator;

constexpr int kBar = 40;
constexpr int64_t kBatch = 64, kDeviceBatch = 256;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

/// Seconds that `work(i)` takes for one image, i = 0, 1, …; all images come once before it counts, up to `seconds`
/// long.
double time_of(int64_t images, double seconds, const std::function<void(int64_t)>& work) {
  const Clock::time_point warm = Clock::now();
  for (int64_t i = 0; i < images && seconds_since(warm) < seconds / 2; ++i) work(i);
  const Clock::time_point start = Clock::now();
  int64_t done = 0;
  do {
    work(done % images);
    ++done;
  } while (seconds_since(start) < seconds);
  return seconds_since(start) / static_cast<double>(done);
}

Generator generator_of(int64_t index) {
  return {0, 0, static_cast<std::uint64_t>(index), data::RandomStream::transform};
}

/// The transform without what comes after crop and flip.
data::TrainTransformOptions without_augmentation(data::TrainTransformOptions options) {
  options.rand_augment.num_ops = 0;
  options.three_augment = false;
  options.color_jitter = 0;
  return options;
}

/// Turns the times of runs that end after each stage into the stages' own.
DataRate differences(const std::vector<DataStage>& until) {
  DataRate rate;
  double before = 0;
  for (const auto& [name, seconds] : until) {
    rate.stages.push_back({name, std::max(0.0, seconds - before)});
    before = std::max(before, seconds);
  }
  rate.images_per_s = 1 / until.back().seconds;
  return rate;
}

double time_of_samples(const data::Dataset& dataset, const data::Transform& transform, double seconds) {
  return time_of(dataset.size(), seconds, [&](int64_t i) {
    data::load_sample(dataset, i, transform, /*seed=*/0, /*epoch=*/0, data::CorruptPolicy::fail);
  });
}

}  // namespace

DataRate measure_training_data(const data::Dataset& dataset, const config::RunConfig& config, double seconds) {
  const data::TrainTransformOptions& options = config.data.train_transform;
  const auto read = [&](int64_t i) { data::touch(dataset.get(i).bytes); };
  const auto decode = [&](int64_t i) {
    const EncodedSample sample = dataset.get(i);
    const data::ImageSource source(sample.bytes);
    Generator generator = generator_of(i);
    data::view_pixels(source, data::draw_train_view(source, options, generator), options);
  };
  return differences(
      {{"read", time_of(dataset.size(), seconds, read)},
       {"decode", time_of(dataset.size(), seconds, decode)},
       {"resize and flip", time_of_samples(dataset, data::train_transform(without_augmentation(options)), seconds)},
       {"augment", time_of_samples(dataset, data::train_transform(options), seconds)}});
}

DataRate measure_evaluation_data(const data::Dataset& dataset, const config::RunConfig& config, double seconds) {
  const auto read = [&](int64_t i) { data::touch(dataset.get(i).bytes); };
  const auto decode = [&](int64_t i) {
    const EncodedSample sample = dataset.get(i);
    data::ImageSource(sample.bytes).whole();
  };
  return differences(
      {{"read", time_of(dataset.size(), seconds, read)},
       {"decode", time_of(dataset.size(), seconds, decode)},
       {"resize and crop", time_of_samples(dataset, data::eval_transform(config.data.eval_transform), seconds)}});
}

LoaderRate measure_loader(const std::shared_ptr<const data::Dataset>& dataset, const config::RunConfig& config,
                          int64_t workers, double seconds, at::Device device) {
  data::LoaderOptions options;
  options.device = data::gpu::make_stage(config.data, config.data.train_transform.size, device);
  options.batch_size = std::min<int64_t>(options.device != nullptr ? kDeviceBatch : kBatch, dataset->size());
  options.workers = workers;
  options.prefetch_batches = config.data.prefetch_batches;
  options.shuffle = true;
  data::Loader loader(dataset, data::train_transform(config.data.train_transform), options);
  int64_t epoch = 0, images = 0;
  loader.start_epoch(epoch);
  // The first batches were prepared before the clock starts.
  for (int64_t i = 0; i < config.data.prefetch_batches && loader.next(); ++i) {
  }
  const Clock::time_point start = Clock::now();
  while (seconds_since(start) < seconds) {
    const auto batch = loader.next();
    if (batch) {
      images += batch->labels.size(0);
    } else {
      loader.start_epoch(++epoch);
    }
  }
  LoaderRate rate;
  rate.images_per_s = static_cast<double>(images) / seconds_since(start);
  if (options.device != nullptr) rate.gpu = data::gpu::times_of(*options.device);
  return rate;
}

nlohmann::ordered_json device_times_json(const data::gpu::DeviceTimes& times) {
  const double images = static_cast<double>(std::max<int64_t>(1, times.images));
  return {{"decoded_share", static_cast<double>(times.decoded) / images},
          {"decode_ms", 1000 * times.decode_seconds / images},
          {"resize_ms", 1000 * times.resize_seconds / images},
          {"augment_ms", 1000 * times.augment_seconds / images}};
}

std::string device_times_text(const data::gpu::DeviceTimes& times) {
  const nlohmann::ordered_json json = device_times_json(times);
  std::ostringstream text;
  text << std::fixed << std::setprecision(4) << "  GPU queues, ms for an image: decode and copy "
       << json["decode_ms"].get<double>() << ", resize and flip " << json["resize_ms"].get<double>() << ", augment "
       << json["augment_ms"].get<double>() << "; " << std::setprecision(1) << 100 * json["decoded_share"].get<double>()
       << " % of the images decoded there\n";
  return text.str();
}

nlohmann::ordered_json data_rate_json(const DataRate& rate) {
  nlohmann::ordered_json json{{"images_per_s", rate.images_per_s}, {"stages_ms", nlohmann::ordered_json::object()}};
  for (const auto& [name, seconds] : rate.stages) json["stages_ms"][name] = 1000 * seconds;
  return json;
}

std::string data_rate_text(const std::string& title, const DataRate& rate) {
  std::ostringstream text;
  text << std::fixed << title << ": " << std::setprecision(0) << rate.images_per_s << " images/s on one thread\n";
  for (const auto& [name, seconds] : rate.stages) {
    const double share = seconds * rate.images_per_s;
    text << "  " << std::left << std::setw(16) << name << std::right << std::setprecision(3) << std::setw(8)
         << 1000 * seconds << " ms" << std::setprecision(0) << std::setw(5) << 100 * share << " %  "
         << std::string(static_cast<std::size_t>(std::clamp(share * kBar, 0.0, double{kBar})), '#') << "\n";
  }
  return text.str();
}

}  // namespace vrwkv::bench

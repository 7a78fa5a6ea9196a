#include "data/prepared_sample.h"

#include <utility>

#include "data/baseline_jpeg.h"
#include "data/image_source.h"
#include "data/random.h"
#include "data/touch.h"

namespace vrwkv::data {
namespace {

/// Whether `pixels` and the rows of the view's box with their final width are within what a device may hold.
bool fits(int64_t pixels, const TrainView& view, const PrepareOptions& options) {
  return pixels <= options.max_device_pixels && view.box.height * options.transform.size <= options.max_device_pixels;
}

bool drawn_for_device(int64_t view, const PrepareOptions& options, std::uint64_t seed, int64_t epoch) {
  Generator generator(seed, static_cast<std::uint64_t>(epoch), static_cast<std::uint64_t>(view), RandomStream::decoder);
  return generator.uniform() < options.device_share;
}

PreparedSample prepare_one(const Dataset& dataset, int64_t view, const PrepareOptions& options, std::uint64_t seed,
                           int64_t epoch) {
  const TrainTransformOptions& transform = options.transform;
  PreparedSample prepared;
  LoadedSample& sample = prepared.sample;
  sample.index = view % dataset.size();
  sample.view = view;
  EncodedSample encoded = dataset.get(sample.index);
  sample.label = encoded.label;
  sample.name = encoded.name;
  with_name(encoded.name, [&] {
    const ImageSource image(encoded.bytes);
    Generator generator = transform_generator(seed, epoch, view);
    prepared.view = draw_train_view(image, transform, generator);
    prepared.height = image.height();
    prepared.width = image.width();
    if (fits(image.height() * image.width(), prepared.view, options) && is_baseline_jpeg(encoded.bytes) &&
        drawn_for_device(view, options, seed, epoch)) {
      touch(encoded.bytes);  // Here and not in the thread that feeds the device.
      prepared.source = std::move(encoded);
      return;
    }
    at::Tensor pixels = view_pixels(image, prepared.view, transform);
    Box& box = prepared.view.box;
    box = {0, 0, pixels.size(0), pixels.size(1)};
    if (fits(box.height * box.width, prepared.view, options)) {
      prepared.pixels = std::move(pixels);
    } else {
      sample.image = make_train_view(pixels, prepared.view, transform.size);
    }
  });
  return prepared;
}

}  // namespace

PreparedSample prepare_sample(const Dataset& dataset, int64_t view, const PrepareOptions& options, std::uint64_t seed,
                              int64_t epoch, CorruptPolicy policy) {
  PreparedSample prepared;
  std::vector<CorruptImage> corrupt = load_readable(dataset, view, seed, epoch, policy, [&](int64_t candidate) {
    prepared = prepare_one(dataset, candidate, options, seed, epoch);
  });
  prepared.requested = view;
  prepared.sample.corrupt = std::move(corrupt);
  return prepared;
}

}  // namespace vrwkv::data

#include "data/prepared_sample.h"

#include <utility>

#include "data/baseline_jpeg.h"
#include "data/image_source.h"
#include "data/random.h"
#include "data/touch.h"

namespace vrwkv::data {
namespace {

bool for_device(const EncodedSample& sample, const ImageSource& image, int64_t view, const PrepareOptions& options,
                std::uint64_t seed, int64_t epoch) {
  Generator generator(seed, static_cast<std::uint64_t>(epoch), static_cast<std::uint64_t>(view), RandomStream::decoder);
  return generator.uniform() < options.device_share && image.height() * image.width() <= options.max_device_pixels &&
         is_baseline_jpeg(sample.bytes);
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
    prepared.view = draw_train_view(image.height(), image.width(), transform, generator);
    prepared.height = image.height();
    prepared.width = image.width();
    if (for_device(encoded, image, view, options, seed, epoch)) {
      touch(encoded.bytes);  // Here and not in the thread that feeds the device.
      prepared.source = std::move(encoded);
      return;
    }
    at::Tensor pixels = view_pixels(image, prepared.view, transform);
    Box& box = prepared.view.box;
    box.top = box.left = 0;
    if (box.height * box.width > options.max_device_pixels) {
      sample.image = make_train_view(pixels, prepared.view, transform.size);
    } else {
      prepared.pixels = std::move(pixels);
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

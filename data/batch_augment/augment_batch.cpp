#include "data/batch_augment/augment_batch.h"

#include "data/batch_augment/erase.h"
#include "data/batch_augment/mix.h"
#include "data/random.h"

namespace vrwkv::data {
namespace {

Generator generator_of(const BatchPlace& place, int64_t index, RandomStream stream) {
  return {place.seed, static_cast<std::uint64_t>(place.epoch), static_cast<std::uint64_t>(index), stream};
}

void erase_some(const at::Tensor& images, const std::vector<int64_t>& views, const ErasingOptions& options,
                const BatchPlace& place) {
  std::vector<std::vector<Box>> boxes;
  boxes.reserve(views.size());
  for (const int64_t view : views) {
    Generator generator = generator_of(place, view, RandomStream::erasing);
    boxes.push_back(erasing_boxes(images.size(2), images.size(3), options, generator));
  }
  erase(images, boxes, options.fill, generator_of(place, place.batch, RandomStream::noise).bits());
}

}  // namespace

bool augments_batches(const DataOptions& options) {
  return options.train_transform.erasing.prob > 0.0 || options.mix.enabled();
}

AugmentedBatch augment_batch(const at::Tensor& images, const at::Tensor& labels, const std::vector<int64_t>& views,
                             const DataOptions& options, int64_t classes, const BatchPlace& place) {
  if (options.train_transform.erasing.prob > 0.0) {
    erase_some(images, views, options.train_transform.erasing, place);
  }
  if (!options.mix.enabled()) {
    return {images, labels};
  }
  Generator generator = generator_of(place, place.batch, RandomStream::mix);
  const auto rows = draw_mix(images.size(0), images.size(2), images.size(3), options.mix, generator);
  return {mix_images(images, rows), mix_labels(labels, rows, classes)};
}

}  // namespace vrwkv::data

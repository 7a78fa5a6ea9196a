#include "train/synthetic_run.h"

#include <algorithm>

namespace vrwkv::train {

namespace {

constexpr int64_t kFewest = 1024;

/// `options` with the values of `fitting` where they are as by default.
data::SyntheticOptions completed(data::SyntheticOptions options, const data::SyntheticOptions& fitting) {
  const data::SyntheticOptions usual;
  if (options.images == usual.images) options.images = fitting.images;
  if (options.classes == usual.classes) options.classes = fitting.classes;
  if (options.size == usual.size) options.size = fitting.size;
  if (options.seed == usual.seed) options.seed = fitting.seed;
  return options;
}

data::DatasetOptions synthetic_dataset(const data::DatasetOptions& given, const data::SyntheticOptions& fitting) {
  return {.path = "",
          .format = data::DatasetFormat::synthetic,
          .list = "",
          .synthetic = completed(given.synthetic, fitting)};
}

}  // namespace

void use_synthetic_data(config::RunConfig& config) {
  const int64_t classes = config.model.num_classes;
  data::DataOptions& data = config.data;
  data.train = synthetic_dataset(data.train, {.images = std::max(kFewest, 2 * config.train.batch_size),
                                              .classes = classes,
                                              .size = data.train_transform.size,
                                              .seed = 0});
  data.val = synthetic_dataset(data.val, {.images = std::max(kFewest, config.eval.batch_size),
                                          .classes = classes,
                                          .size = data.eval_transform.resize,
                                          .seed = 1});
}

}  // namespace vrwkv::train

#include "train/synthetic_run.h"

#include <algorithm>

namespace vrwkv::train {

void use_synthetic_data(config::RunConfig& config) {
  constexpr int64_t kFewest = 1024;
  const int64_t classes = config.model.num_classes;
  data::DataOptions& data = config.data;
  data.train = {.path = "",
                .format = data::DatasetFormat::synthetic,
                .list = "",
                .synthetic = {.images = std::max(kFewest, 2 * config.train.batch_size),
                              .classes = classes,
                              .size = data.train_transform.size,
                              .seed = 0}};
  data.val = data.train;
  data.val.synthetic = {.images = std::max(kFewest, config.eval.batch_size),
                        .classes = classes,
                        .size = data.eval_transform.resize,
                        .seed = 1};
}

}  // namespace vrwkv::train

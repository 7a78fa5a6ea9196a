#include "train/make_optimizer.h"

#include <stdexcept>

#include "train/adamw.h"
#include "train/lamb.h"
#include "train/sgd.h"

namespace vrwkv::train {

std::unique_ptr<Optimizer> make_optimizer(std::vector<ParamGroup> groups, const config::OptimizerOptions& options) {
  switch (options.name) {
    case config::OptimizerName::adamw:
      return std::make_unique<AdamW>(std::move(groups), options);
    case config::OptimizerName::lamb:
      return std::make_unique<Lamb>(std::move(groups), options);
    case config::OptimizerName::sgd:
      return std::make_unique<Sgd>(std::move(groups), options);
  }
  throw std::logic_error("make_optimizer: unknown optimizer");
}

}  // namespace vrwkv::train

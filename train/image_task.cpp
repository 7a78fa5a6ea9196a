#include "train/image_task.h"

#include <utility>

#include "eval/evaluator.h"
#include "vrwkv/checkpoint/weights.h"

namespace vrwkv::train {

ImageTask::ImageTask(const config::RunConfig& config, ImageData datasets, at::Device device,
                     std::shared_ptr<distributed::World> world)
    : config_(config),
      world_(std::move(world)),
      precision_{device, config.run.dtype},
      datasets_(std::move(datasets)),
      images_(config, datasets_.train, device, world_),
      eval_loader_(eval::make_eval_loader(config, datasets_.val, device, *world_)) {}

std::map<std::string, std::string> ImageTask::metadata() const {
  const bool published = config_.model.backbone.wkv == WkvFormula::published;
  return {{kWkvKey, published ? kWkvPublished : kWkvPaper}};
}

}  // namespace vrwkv::train

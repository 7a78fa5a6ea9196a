#include "config/cross_checks.h"

#include <array>
#include <string>

#include "common/errors.h"
#include "config/text.h"

namespace vrwkv::config {

namespace {

class CrossChecks {
 public:
  CrossChecks(const Node& root, Problems& problems) : root_(root), problems_(problems) {}

  void check(bool valid, const std::string& key, const std::string& message) {
    if (!valid) problems_.add(locate(root_, key), "'" + key + "' " + message);
  }

  void multiple_of_patch(int64_t size, const std::string& key, int64_t patch) {
    const int64_t below = size / patch * patch;
    const std::string nearest = (below > 0 ? std::to_string(below) + " or " : "") + std::to_string(below + patch);
    check(size % patch == 0, key,
          "(" + std::to_string(size) + ") must be a multiple of 'model.patch_size' (" + std::to_string(patch) +
              "); the nearest valid values are " + nearest);
  }

  void ascending(const std::array<double, 2>& values, const std::string& key) {
    check(values[0] <= values[1], key,
          "must be in ascending order, got [" + number_text(values[0]) + ", " + number_text(values[1]) + "]");
  }

  void dataset(const data::DatasetOptions& dataset, const std::string& section) {
    const bool needs_list = dataset.format == data::DatasetFormat::list;
    const bool may_have_list = needs_list || dataset.format == data::DatasetFormat::automatic;
    check(!needs_list || !dataset.list.empty(), section + ".format",
          "is list, but '" + section + ".list' names no file; set it");
    check(may_have_list || dataset.list.empty(), section + ".list",
          "is set, but '" + section + ".format' does not use it; set the format to list, or remove this key");
  }

  void augmentation(const data::DataOptions& options) {
    const data::TrainTransformOptions& transform = options.train_transform;
    ascending(transform.erasing.area, "data.train_transform.erasing.area");
    ascending(transform.erasing.ratio, "data.train_transform.erasing.ratio");
    check(!transform.three_augment || transform.rand_augment.num_ops == 0, "data.train_transform.three_augment",
          "is true, but 'data.train_transform.rand_augment.num_ops' is " +
              std::to_string(transform.rand_augment.num_ops) + "; set one of them to false or 0");
  }

  void model(const ClassifierOptions& options) {
    try {
      validate(options);
    } catch (const UsageError& error) {
      // Its messages begin with the option's name.
      const std::string message = error.what();
      problems_.add(locate(root_, "model." + message.substr(0, message.find(' '))), "model: " + message);
    }
  }

 private:
  const Node& root_;
  Problems& problems_;
};

}  // namespace

void check_across_keys(const RunConfig& config, const Node& root, Problems& problems) {
  CrossChecks checks(root, problems);
  const VrwkvOptions& backbone = config.model.backbone;
  checks.model(config.model);
  checks.check(backbone.in_channels == 3, "model.in_channels",
               "must be 3, as images are read as RGB, got " + std::to_string(backbone.in_channels));

  checks.dataset(config.data.train, "data.train");
  checks.dataset(config.data.val, "data.val");
  checks.multiple_of_patch(config.data.train_transform.size, "data.train_transform.size", backbone.patch_size);
  checks.multiple_of_patch(config.data.eval_transform.size, "data.eval_transform.size", backbone.patch_size);
  checks.ascending(config.data.train_transform.scale, "data.train_transform.scale");
  checks.ascending(config.data.train_transform.ratio, "data.train_transform.ratio");
  checks.augmentation(config.data);

  const TrainOptions& train = config.train;
  checks.check(train.batch_size % train.grad_accumulation == 0, "train.grad_accumulation",
               "(" + std::to_string(train.grad_accumulation) + ") must divide 'train.batch_size' (" +
                   std::to_string(train.batch_size) + ")");
  checks.check(train.schedule.warmup_epochs <= static_cast<double>(train.epochs), "train.schedule.warmup_epochs",
               "(" + number_text(train.schedule.warmup_epochs) + ") must be at most 'train.epochs' (" +
                   std::to_string(train.epochs) + ")");
}

}  // namespace vrwkv::config

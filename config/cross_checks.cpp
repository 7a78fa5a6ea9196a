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
    const bool may_be_tar =
        dataset.format == data::DatasetFormat::tar || dataset.format == data::DatasetFormat::automatic;
    only_where(may_be_tar, dataset.ground_truth.empty(), section + ".ground_truth", "'" + section + ".format' tar");
    only_where(!dataset.ground_truth.empty(), dataset.synsets.empty(), section + ".synsets",
               "'" + section + ".ground_truth'");
    check(dataset.ground_truth.empty() || !dataset.synsets.empty(), section + ".ground_truth",
          "is set, but '" + section + ".synsets' names no file; set it");
    only_where(may_be_tar || dataset.format == data::DatasetFormat::folder,
               dataset.index_cache == data::DatasetOptions().index_cache, section + ".index_cache",
               "'" + section + ".format' folder or tar");
    check(!dataset.index_cache.empty(), section + ".index_cache", "is empty; write auto, off or the name of a folder");
  }

  void rand_augment(const data::RandAugmentOptions& options) {
    const data::RandAugmentOptions usual;
    const std::string section = "data.train_transform.rand_augment.";
    const std::string condition = "'" + section + "num_ops' above 0";
    const bool on = options.num_ops > 0;
    only_where(on, options.magnitude == usual.magnitude, section + "magnitude", condition);
    only_where(on, options.magnitude_std == usual.magnitude_std, section + "magnitude_std", condition);
    only_where(on, options.prob == usual.prob, section + "prob", condition);
    only_where(on, options.increasing == usual.increasing, section + "increasing", condition);
  }

  void erasing(const data::ErasingOptions& options) {
    const data::ErasingOptions usual;
    const std::string section = "data.train_transform.erasing.";
    const std::string condition = "'" + section + "prob' above 0";
    const bool on = options.prob > 0;
    only_where(on, options.fill == usual.fill, section + "fill", condition);
    only_where(on, options.area == usual.area, section + "area", condition);
    only_where(on, options.ratio == usual.ratio, section + "ratio", condition);
    only_where(on, options.max_count == usual.max_count, section + "max_count", condition);
    ascending(options.area, section + "area");
    ascending(options.ratio, section + "ratio");
  }

  void mix(const data::MixOptions& options) {
    const data::MixOptions usual;
    const std::string either = "'data.mix.mixup_alpha' or 'data.mix.cutmix_alpha' above 0";
    only_where(options.enabled(), options.prob == usual.prob, "data.mix.prob", either);
    only_where(options.enabled(), options.mode == usual.mode, "data.mix.mode", either);
    only_where(options.mixup_alpha > 0 && options.cutmix_alpha > 0, options.switch_prob == usual.switch_prob,
               "data.mix.switch_prob", "'data.mix.mixup_alpha' and 'data.mix.cutmix_alpha' above 0");
  }

  void progressive(const data::TrainTransformOptions& transform, int64_t patch_size) {
    const data::ProgressiveOptions& options = transform.progressive;
    const std::string section = "data.train_transform.progressive.";
    only_where(options.start_size > 0, options.epochs == 0, section + "growth_epochs",
               "'" + section + "start_size' above 0");
    if (options.start_size == 0) return;
    multiple_of_patch(options.start_size, section + "start_size", patch_size);
    check(options.start_size < transform.size, section + "start_size",
          "(" + std::to_string(options.start_size) + ") must be less than 'data.train_transform.size' (" +
              std::to_string(transform.size) + ")");
    check(options.epochs > 0, section + "growth_epochs",
          "is 0, but 'start_size' is set; say in how many epochs it grows");
  }

  void augmentation(const data::DataOptions& options) {
    const data::TrainTransformOptions& transform = options.train_transform;
    rand_augment(transform.rand_augment);
    erasing(transform.erasing);
    mix(options.mix);
    check(!transform.three_augment || transform.rand_augment.num_ops == 0, "data.train_transform.three_augment",
          "is true, but 'data.train_transform.rand_augment.num_ops' is " +
              std::to_string(transform.rand_augment.num_ops) + "; set one of them to false or 0");
  }

  void synthetic(const data::DatasetOptions& dataset, const std::string& section, int64_t num_classes) {
    if (dataset.format != data::DatasetFormat::synthetic) return;
    check(dataset.synthetic.classes <= num_classes, section + ".synthetic.classes",
          "(" + std::to_string(dataset.synthetic.classes) + ") must be at most 'model.num_classes' (" +
              std::to_string(num_classes) + ")");
  }

  template <typename Options>
  void model(const Options& options) {
    try {
      validate(options);
    } catch (const UsageError& error) {
      // Its messages begin with the option's name: a key of `model`, or mae.KEY.
      const std::string message = error.what();
      const std::string name = message.substr(0, message.find(' '));
      const bool of_mae = name.starts_with("mae.");
      problems_.add(locate(root_, of_mae ? name : "model." + name), of_mae ? message : "model: " + message);
    }
  }

  /// Of images of this size, some patches must be visible and some not.
  void masked(const RunConfig& config, int64_t size, const std::string& key) {
    const int64_t side = size / config.model.backbone.patch_size, tokens = side * side;
    const int64_t visible = visible_tokens(tokens, config.mae.mask_ratio);
    check(visible >= 1 && visible < tokens, key,
          "(" + std::to_string(size) + ") gives " + std::to_string(tokens) + " patches, of which 'mae.mask_ratio' (" +
              number_text(config.mae.mask_ratio) + ") leaves " + std::to_string(visible) +
              " visible; choose both such that some are visible and some are not");
  }

  /// Keys that only one of the tasks reads.
  void task(const RunConfig& config) {
    const bool is_mae = config.task == TaskName::mae;
    const MaeOptions usual;
    const PictureOptions usual_pictures;
    const std::string mae = "'task' mae", classification = "'task' classification";
    only_where(is_mae, config.mae.mask_ratio == usual.mask_ratio, "mae.mask_ratio", mae);
    only_where(is_mae, config.mae.norm_pix_loss == usual.norm_pix_loss, "mae.norm_pix_loss", mae);
    only_where(is_mae, config.mae.decoder_embed_dims == usual.decoder_embed_dims, "mae.decoder_embed_dims", mae);
    only_where(is_mae, config.mae.decoder_depth == usual.decoder_depth, "mae.decoder_depth", mae);
    only_where(is_mae, config.mae.double_pos_embed == usual.double_pos_embed, "mae.double_pos_embed", mae);
    only_where(is_mae, config.pictures.every == usual_pictures.every, "mae.picture_every", mae);
    only_where(is_mae, config.pictures.images == usual_pictures.images, "mae.picture_images", mae);
    const ClassifierOptions usual_head;
    only_where(!is_mae, config.model.num_classes == usual_head.num_classes, "model.num_classes", classification);
    only_where(!is_mae, config.model.head == usual_head.head, "model.head", classification);
    only_where(!is_mae, config.train.label_smoothing == TrainOptions().label_smoothing, "train.label_smoothing",
               classification);
    only_where(!is_mae, config.train.loss.name == LossName::cross_entropy, "train.loss.name", classification);
    only_where(!is_mae, config.data.mix.mixup_alpha == 0, "data.mix.mixup_alpha", classification);
    only_where(!is_mae, config.data.mix.cutmix_alpha == 0, "data.mix.cutmix_alpha", classification);
  }

  /// A key that only counts under a condition must keep its default elsewhere: it would be ignored.
  void only_where(bool counts, bool is_default, const std::string& key, const std::string& condition) {
    check(counts || is_default, key, "is set, but counts only with " + condition + "; remove this key");
  }

  void optimizer(const OptimizerOptions& options) {
    const OptimizerOptions usual;
    const std::string section = "train.optimizer.";
    const bool is_sgd = options.name == OptimizerName::sgd;
    only_where(!is_sgd, options.betas == usual.betas, section + "betas", "'train.optimizer.name' adamw or lamb");
    only_where(!is_sgd, options.eps == usual.eps, section + "eps", "'train.optimizer.name' adamw or lamb");
    only_where(is_sgd, options.momentum == usual.momentum, section + "momentum", "'train.optimizer.name' sgd");
    only_where(is_sgd, !options.nesterov, section + "nesterov", "'train.optimizer.name' sgd");
    check(!is_sgd || !options.nesterov || options.momentum > 0, section + "nesterov",
          "is true, but 'train.optimizer.momentum' is 0; set a momentum, or remove this key");
  }

  void schedule(const ScheduleOptions& options) {
    const ScheduleOptions usual;
    const std::string section = "train.schedule.";
    const bool is_step = options.policy == SchedulePolicy::step;
    const bool is_smooth = options.policy == SchedulePolicy::cosine || options.policy == SchedulePolicy::linear;
    only_where(is_step, options.step_epochs == usual.step_epochs, section + "step_epochs",
               "'train.schedule.policy' step");
    only_where(is_step, options.gamma == usual.gamma, section + "gamma", "'train.schedule.policy' step");
    only_where(is_smooth, !options.by_epoch, section + "by_epoch", "'train.schedule.policy' cosine or linear");
    only_where(is_smooth || is_step, options.min_lr_ratio == usual.min_lr_ratio, section + "min_lr_ratio",
               "'train.schedule.policy' cosine, linear or step");
    check(options.warmup_steps == 0 || options.warmup_epochs == 0, section + "warmup_steps",
          "and 'train.schedule.warmup_epochs' are both set; set one of them to 0");
  }

  void loss(const LossOptions& options) {
    const bool is_bce = options.name == LossName::bce;
    only_where(is_bce, !options.bce_threshold, "train.loss.bce_threshold", "'train.loss.name' bce");
    only_where(is_bce, !options.bce_sum, "train.loss.bce_sum", "'train.loss.name' bce");
  }

  void ema(const EmaOptions& options) {
    const EmaOptions usual;
    const std::string section = "train.ema.", condition = "'train.ema.enabled' true";
    only_where(options.enabled, options.decay == usual.decay, section + "decay", condition);
    only_where(options.enabled, options.warmup == usual.warmup, section + "warmup", condition);
    only_where(options.enabled, options.every == usual.every, section + "every", condition);
    only_where(options.enabled, options.best_by == usual.best_by, section + "best_by", condition);
  }

  void anomaly(const AnomalyOptions& options) {
    const AnomalyOptions usual;
    const std::string section = "train.anomaly.";
    only_where(options.spike_factor.has_value(), options.window == usual.window, section + "window",
               "'train.anomaly.spike_factor'");
    only_where(options.answer == AnomalyAnswer::skip, options.max_in_a_row == usual.max_in_a_row,
               section + "max_in_a_row", "'train.anomaly.answer' skip");
    only_where(options.answer == AnomalyAnswer::rollback, options.max_rollbacks == usual.max_rollbacks,
               section + "max_rollbacks", "'train.anomaly.answer' rollback");
  }

 private:
  const Node& root_;
  Problems& problems_;
};

}  // namespace

void check_across_keys(const RunConfig& config, const Node& root, Problems& problems) {
  CrossChecks checks(root, problems);
  const VrwkvOptions& backbone = config.model.backbone;
  checks.task(config);
  if (config.task == TaskName::mae) {
    checks.model(MaskedAutoencoderOptions{backbone, config.mae});
    const data::TrainTransformOptions& transform = config.data.train_transform;
    checks.masked(config, transform.size, "data.train_transform.size");
    checks.masked(config, config.data.eval_transform.size, "data.eval_transform.size");
    if (transform.progressive.start_size > 0) {
      checks.masked(config, transform.progressive.start_size, "data.train_transform.progressive.start_size");
    }
  } else {
    checks.model(config.model);
  }
  checks.check(backbone.in_channels == 3, "model.in_channels",
               "must be 3, as images are read as RGB, got " + std::to_string(backbone.in_channels));

  checks.dataset(config.data.train, "data.train");
  checks.dataset(config.data.val, "data.val");
  if (config.task == TaskName::classification) {
    checks.synthetic(config.data.train, "data.train", config.model.num_classes);
    checks.synthetic(config.data.val, "data.val", config.model.num_classes);
  }
  checks.multiple_of_patch(config.data.train_transform.size, "data.train_transform.size", backbone.patch_size);
  checks.multiple_of_patch(config.data.eval_transform.size, "data.eval_transform.size", backbone.patch_size);
  checks.ascending(config.data.train_transform.scale, "data.train_transform.scale");
  checks.ascending(config.data.train_transform.ratio, "data.train_transform.ratio");
  checks.augmentation(config.data);
  checks.only_where(config.data.decode != data::DecodeDevice::cpu,
                    config.data.gpu_share == data::DataOptions().gpu_share, "data.gpu_share",
                    "'data.decode' gpu or auto");
  checks.progressive(config.data.train_transform, backbone.patch_size);

  const TrainOptions& train = config.train;
  checks.check(train.batch_size % train.grad_accumulation == 0, "train.grad_accumulation",
               "(" + std::to_string(train.grad_accumulation) + ") must divide 'train.batch_size' (" +
                   std::to_string(train.batch_size) + ")");
  checks.check(train.schedule.warmup_epochs <= static_cast<double>(train.epochs), "train.schedule.warmup_epochs",
               "(" + number_text(train.schedule.warmup_epochs) + ") must be at most 'train.epochs' (" +
                   std::to_string(train.epochs) + ")");
  checks.check(train.micro_batch_size == 0 || train.grad_accumulation == 1, "train.micro_batch_size",
               "and 'train.grad_accumulation' are both set; keep one of them");
  checks.check(train.micro_batch_size == 0 || train.batch_size % train.micro_batch_size == 0, "train.micro_batch_size",
               "(" + std::to_string(train.micro_batch_size) + ") must divide 'train.batch_size' (" +
                   std::to_string(train.batch_size) + ")");
  checks.optimizer(train.optimizer);
  checks.schedule(train.schedule);
  checks.loss(train.loss);
  checks.ema(train.ema);
  checks.anomaly(train.anomaly);
  const LossScaleOptions usual_scale;
  for (const auto& [name, value, usual_value] :
       {std::tuple{"initial", train.loss_scale.initial, usual_scale.initial},
        {"growth", train.loss_scale.growth, usual_scale.growth},
        {"backoff", train.loss_scale.backoff, usual_scale.backoff},
        {"interval", static_cast<double>(train.loss_scale.interval), static_cast<double>(usual_scale.interval)}}) {
    checks.only_where(config.run.dtype == Dtype::float16, value == usual_value, std::string("train.loss_scale.") + name,
                      "'run.dtype' float16");
  }
  checks.only_where(config.run.dtype == Dtype::float32, !config.run.tf32, "run.tf32", "'run.dtype' float32");
}

}  // namespace vrwkv::config

#include "eval/eval_command.h"

#include <c10/util/StringUtil.h>

#include <chrono>
#include <cmath>
#include <filesystem>
#include <iostream>
#include <optional>

#include "cli/device.h"
#include "cli/output.h"
#include "common/errors.h"
#include "common/gnuplot.h"
#include "common/log.h"
#include "eval/autoencoder_command.h"
#include "eval/check_classes.h"
#include "eval/class_names.h"
#include "eval/evaluator.h"
#include "eval/load_classifier.h"
#include "eval/report.h"

namespace vrwkv::eval {
namespace {

/// The transform at `size` with the crop ratio that was asked for, else with that of the configuration.
data::EvalTransformOptions transform_at(int64_t size, const EvalFlags& flags, data::EvalTransformOptions transform) {
  if (!flags.crop_ratio.empty()) {
    transform.resize = static_cast<int64_t>(std::floor(static_cast<double>(size) / std::stod(flags.crop_ratio)));
  } else {
    transform.resize = std::llround(static_cast<double>(transform.resize * size) / static_cast<double>(transform.size));
  }
  transform.size = size;
  return transform;
}

std::vector<int64_t> sizes_of(const EvalFlags& flags, const config::RunConfig& config) {
  std::vector<int64_t> sizes;
  for (const std::string& size : flags.sizes) sizes.push_back(std::stoll(size));
  if (sizes.empty()) sizes.push_back(config.data.eval_transform.size);
  const int64_t patch = config.model.backbone.patch_size;
  for (const int64_t size : sizes) {
    if (size % patch == 0) continue;
    throw UsageError("--sizes: " + std::to_string(size) + " is no multiple of model.patch_size (" +
                     std::to_string(patch) + ")");
  }
  return sizes;
}

void write_with_picture(const std::string& csv_file, const std::string& csv, const std::string& script) {
  cli::write_output(csv_file, csv);
  draw_with_gnuplot(script, std::filesystem::path(csv_file).replace_extension(".png"));
}

/// What stays the same for all checkpoints and sizes.
class Evaluations {
 public:
  Evaluations(const EvalFlags& flags, config::RunConfig config)
      : flags_(flags),
        config_(std::move(config)),
        launch_(cli::prepare_launch()),
        precision_{cli::prepare_device(config_.run, launch_), config_.run.dtype},
        sizes_(sizes_of(flags, config_)) {
    check_eval_flags(flags, launch_.rank == 0);
    world_.emplace(launch_, std::chrono::seconds(config_.train.distributed.timeout));
    dataset_ = data::open_dataset(config_.data.val);
    if (!flags.labels.empty()) labels_.emplace(flags.labels, *dataset_, config_.model.num_classes);
  }

  void run() {
    for (const std::string& checkpoint : flags_.checkpoints) evaluate_checkpoint(checkpoint);
    world_->leave();
  }

 private:
  bool several() const { return flags_.checkpoints.size() > 1 || sizes_.size() > 1; }

  void evaluate_checkpoint(const std::string& checkpoint) {
    const ModelWeights weights = read_checkpoint(checkpoint, flags_.weights);
    if (labels_) {
      check_head(config_, weights);
    } else {
      check_classes(*dataset_, "data.val", config_, &weights);
    }
    const VrwkvClassifier model = load_classifier(config_.model, weights, checkpoint, precision_);
    for (const int64_t size : sizes_) {
      config::RunConfig config = config_;
      config.data.eval_transform = transform_at(size, flags_, config_.data.eval_transform);
      evaluate_at(model, config, checkpoint, model_names(weights));
    }
  }

  std::vector<std::string> model_names(const ModelWeights& weights) const {
    const bool of_data = !labels_ && weights.classes.empty() && data_classes() == config_.model.num_classes;
    return of_data ? dataset_->classes() : class_names(config_.model.num_classes, "", weights.classes);
  }

  int64_t data_classes() const { return std::ssize(dataset_->classes()); }

  void evaluate_at(const VrwkvClassifier& model, const config::RunConfig& config, const std::string& checkpoint,
                   const std::vector<std::string>& names) {
    std::optional<ConfusionMatrix> confusion;
    if (!flags_.confusion.empty()) confusion.emplace(data_classes(), config.model.num_classes, precision_.device);
    const EvaluationOptions options{.flip = !flags_.tta.empty(),
                                    .labels = labels_ ? &*labels_ : nullptr,
                                    .data_classes = data_classes(),
                                    .confusion = confusion ? &*confusion : nullptr};
    const auto loader = make_eval_loader(config, dataset_, precision_.device, *world_);
    const auto start = std::chrono::steady_clock::now();
    const Accuracy accuracy = evaluate(model, *loader, config.data.normalize, precision_, *world_, options);
    const std::chrono::duration<double> time = std::chrono::steady_clock::now() - start;
    if (!world_->is_main()) return;
    log::info(c10::str(accuracy.images, " images, loss ", accuracy.loss, ", ",
                       static_cast<double>(loader->samples_per_epoch() * world_->size()) / time.count(), " images/s"));
    reports_.push_back({{flags_.config, checkpoint, flags_.weights, config.data.eval_transform, flags_.tta}, accuracy});
    tell(reports_.back());
    write_files();
    if (confusion) write_confusion(confusion->counts(), names);
  }

  void tell(const Report& report) const {
    std::ostream& text = flags_.json == "-" ? std::cerr : std::cout;
    if (flags_.per_class) text << class_table(report.accuracy, dataset_->classes());
    if (several()) text << report.source.checkpoint << "  size " << report.source.transform.size << "  ";
    text << summary_line(report.accuracy) << std::endl;
  }

  void write_files() const {
    const bool complete = reports_.size() == flags_.checkpoints.size() * sizes_.size();
    if (!flags_.csv.empty()) cli::write_output(flags_.csv, reports_csv(reports_));
    if (!flags_.plot.empty()) draw_with_gnuplot(size_plot_script(reports_), flags_.plot);
    const bool to_stdout = flags_.json == "-";
    if (!flags_.json.empty() && (complete || !to_stdout)) {
      cli::write_output(flags_.json,
                        several() ? reports_json(reports_) : report_json(reports_.front(), class_names_if_asked()));
    }
    if (!flags_.per_class_csv.empty()) {
      write_with_picture(flags_.per_class_csv, class_csv(reports_.front().accuracy, dataset_->classes()),
                         class_script(reports_.front().accuracy, dataset_->classes()));
    }
  }

  std::vector<std::string> class_names_if_asked() const {
    return flags_.per_class ? dataset_->classes() : std::vector<std::string>{};
  }

  void write_confusion(const at::Tensor& counts, const std::vector<std::string>& names) const {
    write_with_picture(flags_.confusion, confusion_csv(counts, dataset_->classes(), names),
                       confusion_script(counts, dataset_->classes(), names));
  }

  const EvalFlags& flags_;
  const config::RunConfig config_;
  const distributed::Launch launch_;
  const Precision precision_;
  const std::vector<int64_t> sizes_;
  std::optional<distributed::World> world_;
  std::shared_ptr<const data::Dataset> dataset_;
  std::optional<LabelSet> labels_;
  std::vector<Report> reports_;
};

}  // namespace

void run_evaluations(EvalFlags flags) {
  if (!flags.batch_size.empty()) flags.overrides.push_back("eval.batch_size=" + flags.batch_size);
  const config::RunConfig config = cli::load_config(flags);
  if (config.task == config::TaskName::mae) {
    run_autoencoder_evaluations(flags, config);
  } else {
    Evaluations(flags, config).run();
  }
}

}  // namespace vrwkv::eval

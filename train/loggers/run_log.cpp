#include "train/loggers/run_log.h"

#include <utility>
#include <vector>

#include "train/loggers/learning_curves.h"

namespace vrwkv::train {
namespace {

using Values = std::vector<std::pair<std::string, double>>;

Values values_of(const StepMetrics& metrics) {
  return {{"loss", metrics.loss},
          {"lr", metrics.lr},
          {"grad_norm", metrics.grad_norm},
          {"images_per_s", metrics.images_per_s},
          {"data_wait", metrics.data_wait}};
}

/// The values with the epoch in front.
Values with_epoch(double epoch, const Values& values) {
  Values all{{"epoch", epoch}};
  all.insert(all.end(), values.begin(), values.end());
  return all;
}

Values with_prefix(const std::string& prefix, Values values) {
  for (auto& [name, value] : values) name.insert(0, prefix);
  return values;
}

}  // namespace

RunLog::RunLog(const std::filesystem::path& folder, const config::LogOptions& options, int64_t step)
    : folder_(folder), metrics_(folder / "metrics.jsonl", step) {
  if (options.csv) {
    train_csv_.emplace(folder / "train.csv", step);
    eval_csv_.emplace(folder / "eval.csv", step);
  }
  if (options.tensorboard) tensorboard_.emplace(folder, step);
}

void RunLog::write(const StepMetrics& metrics) {
  const Values values = values_of(metrics);
  metrics_.write(metrics);
  if (train_csv_) train_csv_->write(metrics.step, with_epoch(metrics.epoch, values));
  if (tensorboard_) tensorboard_->write(metrics.step, with_prefix("train/", values));
}

void RunLog::write_evaluation(int64_t step, int64_t epoch, const std::map<std::string, double>& metrics) {
  const Values values(metrics.begin(), metrics.end());
  metrics_.write_evaluation(step, epoch, metrics);
  if (eval_csv_) eval_csv_->write(step, with_epoch(static_cast<double>(epoch), values));
  if (tensorboard_) tensorboard_->write(step, with_prefix("eval/", values));
  draw();
}

void RunLog::draw() const { draw_learning_curves(folder_); }

}  // namespace vrwkv::train

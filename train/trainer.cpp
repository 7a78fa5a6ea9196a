#include "train/trainer.h"

#include <torch/utils.h>

#include <cmath>
#include <limits>
#include <sstream>

#include "common/atomic_file.h"
#include "common/errors.h"
#include "common/log.h"
#include "train/freeze.h"
#include "train/interrupt.h"
#include "train/loggers/learning_curves.h"
#include "train/make_optimizer.h"
#include "train/param_groups.h"
#include "train/schedule.h"
#include "train/step_seed.h"
#include "train/train_step.h"

namespace vrwkv::train {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

int64_t steps_per_epoch(const Task& task, const config::TrainOptions& options) {
  const int64_t steps = task.batches_per_epoch() / options.grad_accumulation;
  if (steps > 0) return steps;
  throw UsageError("train.batch_size is " + std::to_string(options.batch_size) +
                   ", but an epoch of the training data has fewer images; lower train.batch_size");
}

at::Device device_of(Task& task) { return task.model().parameters().front().device(); }

/// The groups of the parameters that train.freeze leaves.
std::vector<ParamGroup> trained_groups(Task& task, const config::TrainOptions& options) {
  const std::vector<std::string> frozen = freeze_parameters(task.model(), options.freeze);
  if (!frozen.empty()) {
    log::info("frozen: " + std::to_string(frozen.size()) + " of " + std::to_string(task.model().parameters().size()) +
              " parameters");
  }
  return make_param_groups(task.model(), options.optimizer);
}

/// float64, which is for tests, keeps its learning rate in the optimizer's arguments, where a recording cannot follow
/// it.
GraphMode graph_mode(const config::RunConfig& config) {
  if (config.run.dtype != config::Dtype::float64) return config.train.cuda_graph;
  if (config.train.cuda_graph == GraphMode::on) {
    throw UsageError("train.cuda_graph is 'on', but run.dtype is float64, which cannot be recorded; set it to 'auto'");
  }
  return GraphMode::off;
}

}  // namespace

Trainer::Trainer(const config::RunConfig& config, Task& task, const std::optional<std::string>& resume)
    : config_(config),
      task_(task),
      folder_(config.run.output_dir),
      steps_per_epoch_(steps_per_epoch(task, config.train)),
      optimizer_(make_optimizer(trained_groups(task, config.train), config.train.optimizer)),
      recorded_step_(
          [this] {
            result_ = train_step([this](int64_t part) { return task_.loss(part); }, config_.train.grad_accumulation,
                                 *optimizer_, config_.train.clip_grad_norm, skip_above_,
                                 loss_scale_ ? &*loss_scale_ : nullptr);
          },
          device_of(task), graph_mode(config)),
      checkpoints_(folder_, config.train.keep_checkpoints) {
  state_.steps_per_epoch = steps_per_epoch_;
  if (config.train.ema.enabled) ema_.emplace(task.model(), config.train.ema);
  if (config.run.dtype == config::Dtype::float16) {
    const at::Device device = device_of(task);
    loss_scale_.emplace(config.train.loss_scale, device);
    skip_above_ =
        torch::full({}, std::numeric_limits<float>::max(), torch::TensorOptions(torch::kFloat).device(device));
  }
  if (!resume && !checkpoints_.empty()) {
    throw UsageError(folder_.string() +
                     " already holds a run; go on with --resume auto, or give run.output_dir=… of "
                     "its own to a new one");
  }
  if (resume) resume_from(*resume);
  checkpoints_.open();
  log::add_file(folder_ / "train.log");
  AtomicFile config_file(folder_ / "config.yaml");
  config_file.write(config::to_yaml(config_));
  config_file.commit();
}

void Trainer::resume_from(const std::string& request) {
  const auto found = checkpoints_.find(request);
  if (!found) {
    log::info("nothing to resume in " + folder_.string() + "; starting a new run");
    return;
  }
  const std::string path = found->path.string();
  try {
    state_ = load_checkpoint(found->checkpoint, trained());
  } catch (const std::runtime_error& error) {
    throw std::runtime_error(path + ": " + error.what());
  }
  if (state_.steps_per_epoch != steps_per_epoch_) {
    throw UsageError(path + " was trained with " + std::to_string(state_.steps_per_epoch) +
                     " steps per epoch, this configuration and data give " + std::to_string(steps_per_epoch_) +
                     "; resume with the run's own config.yaml");
  }
  log::info("resumed from " + path + " after step " + std::to_string(state_.step) + " of " +
            std::to_string(config_.train.epochs * steps_per_epoch_));
}

void Trainer::run() {
  const InterruptGuard interrupt;
  interrupt_ = &interrupt;
  metrics_.emplace(folder_ / "metrics.jsonl", state_.step);
  progress_.emplace(config_.train.epochs, steps_per_epoch_, state_.step);
  while (state_.epoch() < config_.train.epochs && !interrupt.requested()) train_epoch();
  progress_->finish();
  if (interrupt.requested() && state_.step_in_epoch() != 0) save();
  if (interrupt.requested()) {
    log::warn("interrupted after step " + std::to_string(state_.step) + "; all is saved, go on with --resume auto");
  }
  draw_learning_curves(folder_);
  interrupt_ = nullptr;
}

bool Trainer::due(int64_t every) const { return every > 0 && state_.step % every == 0; }

void Trainer::train_epoch() {
  const int64_t epoch = state_.epoch();
  task_.model().train();
  task_.start_epoch(epoch, state_.step_in_epoch() * config_.train.grad_accumulation);
  start_window();
  while (state_.epoch() == epoch) {
    step();
    if (state_.step_in_epoch() == 0) break;
    if (interrupt_->requested()) return;
    if (due(config_.train.checkpoint_every_steps)) save();
  }
  finish_epoch(epoch + 1);
}

void Trainer::finish_epoch(int64_t done) {
  const bool is_last = done == config_.train.epochs;
  const bool evaluated = is_last || done % config_.train.eval_every == 0;
  const bool best = evaluated && evaluate();
  if (!best && !is_last && !interrupt_->requested() && done % config_.train.checkpoint_every != 0) return;
  // `best` first: a kill between two writes must not leave a `last` that already counts the score as reached.
  if (best) {
    checkpoints_.save_best(checkpoint());
  } else {
    save();
  }
  checkpoints_.keep_last_as_epoch(done);
}

void Trainer::start_window() {
  window_start_ = Clock::now();
  window_steps_ = 0;
  window_data_wait_ = task_.data_wait_seconds();
}

void Trainer::step() {
  torch::manual_seed(step_seed(static_cast<uint64_t>(config_.run.seed), static_cast<uint64_t>(state_.step)));
  const double lr = learning_rate(config_.train.schedule, config_.train.optimizer.lr, state_.step,
                                  config_.train.epochs * steps_per_epoch_,
                                  warmup_length(config_.train.schedule, steps_per_epoch_), steps_per_epoch_);
  optimizer_->set_learning_rate(lr);
  task_.fetch(config_.train.grad_accumulation);
  recorded_step_();
  ++state_.step;
  if (ema_) ema_->update(state_.step);
  ++window_steps_;
  if (due(config_.train.log_every)) {
    log_step(lr);
  } else {
    progress_->advance(state_.step);
  }
}

void Trainer::log_step(double lr) {
  const double loss = result_.loss.item<double>();
  const double elapsed = seconds_since(window_start_);
  const double waited = task_.data_wait_seconds() - window_data_wait_;
  const double images = static_cast<double>(window_steps_ * config_.train.batch_size);
  if (!std::isfinite(loss)) {
    std::ostringstream text;
    text << "the loss is " << loss << " at step " << state_.step << " (learning rate " << lr << ", gradient norm "
         << result_.grad_norm.item<double>()
         << "); lower train.optimizer.lr or set train.clip_grad_norm, and resume from "
         << checkpoints_.last_path().string();
    throw std::runtime_error(text.str());
  }
  const StepMetrics metrics{.step = state_.step,
                            .epoch = static_cast<double>(state_.step) / static_cast<double>(steps_per_epoch_),
                            .loss = loss,
                            .lr = lr,
                            .grad_norm = result_.grad_norm.item<double>(),
                            .images_per_s = images / elapsed,
                            .data_wait = waited / elapsed};
  metrics_->write(metrics);
  progress_->update(metrics);
  start_window();
}

Evaluation Trainer::evaluate_weights() {
  Evaluation evaluation = task_.evaluate();
  if (!ema_) return evaluation;
  const Ema::InModel averages(*ema_);
  const Evaluation average = task_.evaluate();
  for (const auto& [name, value] : average.metrics) evaluation.metrics.emplace("ema_" + name, value);
  evaluation.summary += "; moving average: " + average.summary;
  if (config_.train.ema.best_by == WeightSet::ema) evaluation.score = average.score;
  return evaluation;
}

bool Trainer::evaluate() {
  const Evaluation evaluation = evaluate_weights();
  const int64_t epoch = state_.epoch();
  metrics_->write_evaluation(state_.step, epoch, evaluation.metrics);
  log::info("epoch " + std::to_string(epoch) + "/" + std::to_string(config_.train.epochs) + ": " + evaluation.summary);
  draw_learning_curves(folder_);
  if (evaluation.score <= state_.best_score) return false;
  state_.best_score = evaluation.score;
  return true;
}

Trained Trainer::trained() {
  return {task_.model(), *optimizer_, ema_ ? &*ema_ : nullptr, loss_scale_ ? &*loss_scale_ : nullptr};
}

Checkpoint Trainer::checkpoint() {
  return make_checkpoint(trained(), state_, config::to_yaml(config_), task_.metadata());
}

void Trainer::save() { checkpoints_.save_last(checkpoint()); }

}  // namespace vrwkv::train

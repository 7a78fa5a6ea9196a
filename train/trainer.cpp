#include "train/trainer.h"

#include <torch/utils.h>

#include <algorithm>
#include <utility>

#include "common/atomic_file.h"
#include "common/errors.h"
#include "common/log.h"
#include "train/anomaly_report.h"
#include "train/freeze.h"
#include "train/interrupt.h"
#include "train/make_optimizer.h"
#include "train/param_groups.h"
#include "train/schedule.h"
#include "train/step_seed.h"
#include "train/train_step.h"

namespace vrwkv::train {
namespace {

using config::AnomalyAnswer;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

int64_t steps_per_epoch(const Task& task, const config::TrainOptions& options, const BatchSplit& split) {
  const int64_t steps = task.batches_per_epoch() / split.parts;
  if (steps > 0) return steps;
  throw UsageError("train.batch_size is " + std::to_string(options.batch_size) +
                   ", but an epoch of the training data has fewer images; lower train.batch_size");
}

at::Device device_of(Task& task) { return task.model().parameters().front().device(); }

std::vector<torch::Tensor> trained_parameters(const torch::nn::Module& model) {
  std::vector<torch::Tensor> found;
  for (const auto& parameter : model.parameters()) {
    if (parameter.requires_grad()) found.push_back(parameter);
  }
  return found;
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

void log_shards(const Optimizer& optimizer) {
  int64_t bytes = 0;
  for (const auto& [name, tensor] : optimizer.state()) bytes += static_cast<int64_t>(tensor.nbytes());
  log::info("the optimizer's state is divided between the processes; this one keeps " + std::to_string(bytes) +
            " bytes of it");
}

}  // namespace

Trainer::Trainer(const config::RunConfig& config, Task& task, const std::optional<std::string>& resume,
                 std::shared_ptr<distributed::World> world)
    : config_(config),
      task_(task),
      world_(std::move(world)),
      split_(split_batch(config.train, world_->size())),
      folder_(config.run.output_dir),
      steps_per_epoch_(steps_per_epoch(task, config.train, split_)),
      recorded_step_(
          [this] {
            result_ = train_step([this](int64_t part) { return task_.loss(part); }, split_.parts, *optimizer_,
                                 config_.train.clip_grad_norm, skip_above_, loss_scale_ ? &*loss_scale_ : nullptr,
                                 sync_.get());
            if (shards_) shards_->share_weights();
          },
          device_of(task), graph_mode(config)),
      checkpoints_(folder_, config.train.keep_checkpoints),
      monitor_(config.train.anomaly, config.train.log_every, config.run.dtype == config::Dtype::float16) {
  state_.steps_per_epoch = steps_per_epoch_;
  const std::vector<std::string> frozen = freeze_parameters(task.model(), config.train.freeze);
  std::vector<ParamGroup> groups = make_param_groups(task.model(), config.train.optimizer);
  if (world_->size() > 1 && config.train.distributed.shard_optimizer) {
    shards_ = std::make_unique<OptimizerShards>(groups, world_);
  }
  optimizer_ = make_optimizer(std::move(groups), config.train.optimizer);
  if (world_->size() > 1) {
    sync_ = std::make_unique<distributed::GradientSync>(trained_parameters(task.model()), *world_,
                                                        config.train.distributed);
  }
  if (config.train.ema.enabled) ema_.emplace(task.model(), config.train.ema);
  if (config.run.dtype == config::Dtype::float16) {
    loss_scale_.emplace(config.train.loss_scale, device_of(task));
  }
  if (loss_scale_ || config.train.anomaly.answer == AnomalyAnswer::skip) {
    skip_above_ = torch::empty({}, torch::TensorOptions(torch::kFloat).device(device_of(task)));
    limit_gradients();
  }
  world_->in_main([&] { open_folder(resume); });
  share_state();
  // Now that train.log is open.
  if (!frozen.empty()) {
    log::info("frozen: " + std::to_string(frozen.size()) + " of " + std::to_string(task.model().parameters().size()) +
              " parameters");
  }
  if (shards_) log_shards(*optimizer_);
}

void Trainer::open_folder(const std::optional<std::string>& resume) {
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

/// Gives rank 0's weights and state to all, after a check that they were started alike.
void Trainer::share_state() {
  if (world_->size() == 1) return;
  const std::string own = config::to_yaml(config_);
  if (world_->broadcast(own) != own) {
    throw UsageError("rank " + std::to_string(world_->rank()) +
                     " was started with another configuration than rank 0; give all processes the same");
  }
  state_ = state_from_text(world_->broadcast(to_text(state_)));
  std::map<std::string, torch::Tensor> whole;
  if (shards_) {
    shards_->scatter(std::exchange(resumed_optimizer_, {}), *optimizer_);
  } else {
    whole = optimizer_->state();
  }
  std::vector<torch::Tensor> tensors;
  for (const auto& [name, tensor] : make_checkpoint(trained(), whole, state_, "", {}).tensors) {
    tensors.push_back(tensor);
  }
  world_->broadcast(tensors);
  limit_gradients();
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
    if (shards_) resumed_optimizer_ = optimizer_state(found->checkpoint);
  } catch (const std::runtime_error& error) {
    throw std::runtime_error(path + ": " + error.what());
  }
  if (state_.steps_per_epoch != steps_per_epoch_) {
    throw UsageError(path + " was trained with " + std::to_string(state_.steps_per_epoch) +
                     " steps per epoch, this configuration and data give " + std::to_string(steps_per_epoch_) +
                     "; resume with the run's own config.yaml");
  }
  limit_gradients();
  log::info("resumed from " + path + " after step " + std::to_string(state_.step) + " of " +
            std::to_string(config_.train.epochs * steps_per_epoch_));
}

void Trainer::run() {
  try {
    train();
  } catch (const std::exception& error) {
    world_->tell_failure(error);
    throw;
  }
}

void Trainer::train() {
  const InterruptGuard interrupt;
  interrupt_ = &interrupt;
  if (world_->is_main()) open_logs();
  // So that there is something to go back to.
  if (config_.train.anomaly.answer == AnomalyAnswer::rollback && state_.step == 0) save();
  while (state_.epoch() < config_.train.epochs && !stopping_) train_epoch();
  if (progress_) progress_->finish();
  if (stopping_ && state_.step_in_epoch() != 0) save();
  finish_saving();
  if (stopping_) {
    log::warn("interrupted after step " + std::to_string(state_.step) + "; all is saved, go on with --resume auto");
  }
  if (log_) log_->draw();
  interrupt_ = nullptr;
  world_->leave();
}

/// All stop after the same step, wherever the signal came.
void Trainer::vote_to_stop() { stopping_ = world_->any_so_far(interrupt_->requested()); }
void Trainer::open_logs() {
  log_.emplace(folder_, config_.train.logs, state_.step);
  progress_.emplace(config_.train.epochs, steps_per_epoch_, state_.step);
}

bool Trainer::due(int64_t every) const { return every > 0 && state_.step % every == 0; }

void Trainer::train_epoch() {
  const int64_t epoch = state_.epoch();
  task_.model().train();
  const int64_t former_size = task_.input_size();
  task_.start_epoch(epoch, state_.step_in_epoch() * split_.parts);
  if (task_.input_size() != former_size) recorded_step_.record_anew();
  start_window();
  while (state_.epoch() == epoch) {
    step();
    const bool ends = state_.step_in_epoch() == 0;
    const bool saves = ends || stopping_ || due(config_.train.checkpoint_every_steps);
    // Before a checkpoint, too: none may hold what an anomaly has spoilt.
    if ((saves || due(config_.train.log_every)) && !watch()) return;
    if (ends) break;
    if (saves && !stopping_) save();
    if (stopping_) return;
  }
  finish_epoch(epoch + 1);
}

void Trainer::finish_epoch(int64_t done) {
  const bool is_last = done == config_.train.epochs;
  const bool evaluated = is_last || done % config_.train.eval_every == 0;
  const bool best = evaluated && evaluate();
  world_->in_main([&] { task_.draw(folder_, done); });
  vote_to_stop();
  if (!best && !is_last && !stopping_ && done % config_.train.checkpoint_every != 0) return;
  // `best` first: a kill between two writes must not leave a `last` that already counts the score as reached.
  save(best ? CheckpointWriter::As::best : CheckpointWriter::As::last, done);
}

void Trainer::start_window() {
  window_start_ = Clock::now();
  window_steps_ = 0;
  window_data_wait_ = task_.data_wait_seconds();
}

double Trainer::step_lr() const {
  return learning_rate(config_.train.schedule, config_.train.optimizer.lr, state_.step,
                       config_.train.epochs * steps_per_epoch_, warmup_length(config_.train.schedule, steps_per_epoch_),
                       steps_per_epoch_);
}

bool Trainer::passed_over() const {
  const auto& steps = state_.watch.passed_over;
  return std::find(steps.begin(), steps.end(), state_.step) != steps.end();
}

void Trainer::step() {
  torch::manual_seed(step_seed(static_cast<uint64_t>(config_.run.seed), static_cast<uint64_t>(state_.step),
                               static_cast<uint64_t>(world_->rank())));
  const bool trains = !passed_over();
  lr_ = step_lr();
  optimizer_->set_learning_rate(lr_);
  world_->enter("reading data");
  task_.fetch(split_.parts);
  world_->enter("training", /*needs_others=*/true);
  if (trains) world_->guard([&] { recorded_step_(); });
  ++state_.step;
  if (trains) {
    monitor_.record(state_.step, result_, task_.batch_names());
    if (ema_) ema_->update(state_.step);
    ++window_steps_;
  }
  if (progress_ && !due(config_.train.log_every)) progress_->advance(state_.step);
  writer_.check();
  vote_to_stop();
}

bool Trainer::watch() {
  const std::vector<Anomaly> found = monitor_.look(state_.watch, *world_);
  if (due(config_.train.log_every)) {
    // A step that was passed over has nothing to log.
    if (const auto reading = monitor_.reading(state_.step)) log_step(*reading);
    state_.watch.skip_above = monitor_.skip_above(state_.watch);
    limit_gradients();
  }
  return found.empty() || answer(found);
}

/// Sets the norm above which the device skips a step, where it skips at all.
void Trainer::limit_gradients() {
  if (skip_above_.defined()) skip_above_.fill_(state_.watch.skip_above);
}

bool Trainer::answer(const std::vector<Anomaly>& found) {
  const config::AnomalyOptions& options = config_.train.anomaly;
  if (world_->is_main()) {
    append_anomalies(folder_, found);
  } else {
    log::warn(anomaly_line(found));  // Its own files; rank 0 answers for all.
  }
  if (options.answer == AnomalyAnswer::stop) stop(found, "");
  const bool too_many = std::any_of(found.begin(), found.end(),
                                    [&](const Anomaly& anomaly) { return anomaly.in_a_row >= options.max_in_a_row; });
  if (options.answer == AnomalyAnswer::skip && too_many) {
    stop(found, std::to_string(options.max_in_a_row) + " anomalous steps in a row (train.anomaly.max_in_a_row): ");
  }
  if (options.answer == AnomalyAnswer::rollback) {
    roll_back(found);
    return false;
  }
  if (world_->is_main()) log::warn(anomaly_line(found));
  return true;
}

/// Only the first batch is passed over: what follows it may be its effect.
void Trainer::roll_back(const std::vector<Anomaly>& found) {
  WatchState watch = state_.watch;
  if (watch.rollbacks >= config_.train.anomaly.max_rollbacks) {
    stop(found, "after " + std::to_string(watch.rollbacks) + " rollbacks (train.anomaly.max_rollbacks): ");
  }
  monitor_.clear();
  world_->in_main([&] {
    writer_.finish();
    if (checkpoints_.empty()) stop(found, "there is no checkpoint to go back to: ");
    log::warn(anomaly_line(found) + "; going back, this batch will be passed over");
    resume_from("auto");
  });
  share_state();
  ++watch.rollbacks;
  watch.passed_over.push_back(found.front().step - 1);
  state_.watch.rollbacks = watch.rollbacks;
  state_.watch.passed_over = watch.passed_over;
  save();  // A run that is killed now must not forget which batch it was.
  if (world_->is_main()) open_logs();
}

void Trainer::stop(const std::vector<Anomaly>& found, const std::string& why) {
  if (!world_->is_main()) throw distributed::PeerFailure("rank 0 says why this run ends");
  writer_.finish();
  throw std::runtime_error(
      why + anomaly_line(found) +
      "; lower train.optimizer.lr, set train.clip_grad_norm or another train.anomaly.answer, and " +
      (checkpoints_.empty() ? "start again" : "resume from " + checkpoints_.last_path().string()));
}

void Trainer::log_step(const AnomalyMonitor::Reading& reading) {
  const double elapsed = seconds_since(window_start_);
  const double waited = task_.data_wait_seconds() - window_data_wait_;
  const double images = static_cast<double>(window_steps_ * config_.train.batch_size);
  const StepMetrics metrics{.step = state_.step,
                            .epoch = static_cast<double>(state_.step) / static_cast<double>(steps_per_epoch_),
                            .loss = reading.loss,
                            .lr = lr_,
                            .grad_norm = reading.grad_norm,
                            .images_per_s = images / elapsed,
                            .data_wait = waited / elapsed};
  if (log_) log_->write(metrics);
  if (progress_) progress_->update(metrics);
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
  world_->enter("evaluating");
  const Evaluation evaluation = evaluate_weights();
  const int64_t epoch = state_.epoch();
  if (log_) log_->write_evaluation(state_.step, epoch, evaluation.metrics);
  log::info("epoch " + std::to_string(epoch) + "/" + std::to_string(config_.train.epochs) + ": " + evaluation.summary);
  if (evaluation.score <= state_.best_score) return false;
  state_.best_score = evaluation.score;
  return true;
}

Trained Trainer::trained() {
  return {task_.model(), *optimizer_, ema_ ? &*ema_ : nullptr, loss_scale_ ? &*loss_scale_ : nullptr};
}

void Trainer::save(CheckpointWriter::As as, std::optional<int64_t> epoch) {
  world_->enter("saving a checkpoint");
  const std::map<std::string, torch::Tensor> sums = shards_ ? shards_->gather(*optimizer_) : optimizer_->state();
  if (!world_->is_main()) return;
  writer_.write(make_checkpoint(trained(), sums, state_, config::to_yaml(config_), task_.metadata()), as, epoch);
}

void Trainer::finish_saving() {
  world_->enter("saving a checkpoint");
  world_->in_main([&] { writer_.finish(); });
  if (const std::string summary = writer_.summary(); !summary.empty()) log::info(summary);
}

}  // namespace vrwkv::train

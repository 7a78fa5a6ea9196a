#pragma once

#include <torch/nn/module.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace vrwkv::train {

/// What an evaluation found.
struct Evaluation {
  std::map<std::string, double> metrics;  ///< Written to metrics.jsonl by name.
  double score = 0;                       ///< Larger is better; decides which checkpoint is `best`.
  std::string summary;                    ///< One line for people.
};

/// What is trained: data, model, loss and metric. The trainer knows nothing else of the task.
class Task {
 public:
  Task() = default;
  Task(const Task&) = delete;
  Task& operator=(const Task&) = delete;
  virtual ~Task() = default;

  virtual torch::nn::Module& model() = 0;

  /// Batches of one epoch; a batch is what one call of loss() sees.
  virtual int64_t batches_per_epoch() const = 0;

  /// Starts reading epoch `epoch` (from 0) at its batch `first_batch`.
  virtual void start_epoch(int64_t epoch, int64_t first_batch) = 0;

  /// Something that differs where the batches of an epoch have another shape than those before (their side, say); the
  /// same for a task whose batches are all alike.
  virtual int64_t input_size() const { return 0; }

  /// Brings the next `parts` batches of the epoch to the model's device, each time to the same places.
  virtual void fetch(int64_t parts) = 0;

  /// Mean loss of batch `part` of those fetched last, a 0-d tensor with its graph. Does not wait for the device.
  virtual torch::Tensor loss(int64_t part) = 0;

  /// Which samples the batches fetched last hold, in their order, by names that lead a person to them (files).
  virtual std::vector<std::string> batch_names() const = 0;

  /// Evaluates the model on the held-back data.
  virtual Evaluation evaluate() = 0;

  /// Draws what a person would look at after `epochs_done` epochs into the run's folder, as files of its own; nothing
  /// by default. Of several processes the first alone is asked.
  virtual void draw(const std::filesystem::path& folder, int64_t epochs_done) {
    static_cast<void>(folder);
    static_cast<void>(epochs_done);
  }

  /// Seconds that fetch() has waited for data so far.
  virtual double data_wait_seconds() const = 0;

  /// Saved with every checkpoint, for those who use the weights (class names, for example).
  virtual std::map<std::string, std::string> metadata() const = 0;
};

}  // namespace vrwkv::train

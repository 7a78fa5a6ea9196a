#include "data/loader.h"

#include <ATen/Context.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <sstream>
#include <stdexcept>
#include <utility>

#include "common/errors.h"
#include "common/log.h"

namespace vrwkv::data {
namespace {

constexpr std::size_t kCorruptFilesShown = 3;

const LoaderOptions& checked(const LoaderOptions& options, const std::shared_ptr<const Dataset>& dataset,
                             const Transform& transform) {
  if (dataset == nullptr || !transform.apply || transform.size < 1) {
    throw std::invalid_argument("Loader: a dataset and a transform are needed");
  }
  if (options.device != nullptr && options.device->size() != transform.size) {
    throw std::invalid_argument("Loader: samples of " + std::to_string(transform.size) + " pixels, but a device for " +
                                std::to_string(options.device->size()));
  }
  if (dataset->size() == 0) {
    throw UsageError("the dataset has no images");
  }
  if (options.workers < 0 || options.prefetch_batches < 1 || options.max_corrupt_share < 0) {
    std::ostringstream text;
    text << "Loader: workers " << options.workers << ", prefetch_batches " << options.prefetch_batches
         << " or max_corrupt_share " << options.max_corrupt_share << " is out of range";
    throw std::invalid_argument(text.str());
  }
  return options;
}

int64_t thread_count(const LoaderOptions& options) {
  const int64_t waiting = options.device != nullptr ? options.device->waiting_threads() : 0;
  return waiting + (options.workers > 0 ? options.workers : std::max<int64_t>(1, std::thread::hardware_concurrency()));
}

/// What `work` throws.
template <class Work>
std::exception_ptr error_of(const Work& work) {
  try {
    work();
    return nullptr;
  } catch (...) {
    return std::current_exception();
  }
}

}  // namespace

Loader::Loader(std::shared_ptr<const Dataset> dataset, Transform transform, const LoaderOptions& options)
    : dataset_(std::move(dataset)),
      transform_(std::move(transform)),
      options_(checked(options, dataset_, transform_)),
      sampler_(dataset_->size(), {.seed = options.seed,
                                  .shuffle = options.shuffle,
                                  .batch_size = options.batch_size,
                                  .drop_last = options.drop_last,
                                  .rank = options.rank,
                                  .world_size = options.world_size,
                                  .repeats = options.repeats}),
      pin_memory_(options.pin_memory && at::hasCUDA()) {
  const int64_t count = thread_count(options_);
  threads_.reserve(static_cast<std::size_t>(count));
  try {
    for (int64_t i = 0; i < count; ++i) {
      threads_.emplace_back([this] { work(); });
    }
  } catch (...) {
    end_threads();
    throw;
  }
}

Loader::~Loader() { end_threads(); }

void Loader::end_threads() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  work_ready_.notify_all();
  for (std::thread& thread : threads_) {
    thread.join();
  }
}

void Loader::start_epoch(int64_t epoch, int64_t first_batch) {
  if (epoch < 0 || first_batch < 0 || first_batch > batches_per_epoch()) {
    throw std::invalid_argument("Loader: cannot start epoch " + std::to_string(epoch) + " at batch " +
                                std::to_string(first_batch) + " of " + std::to_string(batches_per_epoch()));
  }
  std::vector<int64_t> order = sampler_.epoch(epoch);
  started_ = true;
  stats_ = {};
  corrupt_.clear();
  {
    const std::lock_guard lock(mutex_);
    epoch_ = epoch;
    order_ = std::move(order);
    slots_.clear();  // workers still filling a dropped slot keep it alive and are not waited for
    first_slot_ = first_batch;
    next_position_ = first_batch * options_.batch_size;
  }
  add_slots();
}

/// Makes room for as many batches as may be prepared ahead. Only the caller's thread changes slots_ and order_, so that
/// they may be read here without the lock; memory is allocated outside of it.
void Loader::add_slots() {
  while (std::ssize(slots_) < options_.prefetch_batches) {
    const int64_t start = (first_slot_ + std::ssize(slots_)) * options_.batch_size;
    const int64_t count = std::min(options_.batch_size, std::ssize(order_) - start);
    if (count <= 0) {
      return;
    }
    auto slot = std::make_shared<Slot>();
    if (options_.device != nullptr) {
      slot->batch.images = options_.device->allocate(count);
      slot->prepared.resize(static_cast<std::size_t>(count));
      const int64_t group = options_.device->group_size();
      for (int64_t first = 0; first < count; first += group) {
        slot->group_missing.push_back(std::min(group, count - first));
      }
    } else {
      slot->batch.images = at::empty({count, transform_.size, transform_.size, 3},
                                     at::TensorOptions().dtype(at::kByte).pinned_memory(pin_memory_));
    }
    slot->batch.labels = at::empty({count}, at::TensorOptions().dtype(at::kLong).pinned_memory(pin_memory_));
    slot->batch.names.resize(static_cast<std::size_t>(count));
    slot->batch.indices.resize(static_cast<std::size_t>(count));
    slot->batch.views.resize(static_cast<std::size_t>(count));
    slot->corrupt.resize(static_cast<std::size_t>(count));
    slot->missing = count;
    {
      const std::lock_guard lock(mutex_);
      slots_.push_back(std::move(slot));
    }
    work_ready_.notify_all();
  }
}

std::optional<Batch> Loader::next() {
  if (!started_) {
    throw std::logic_error("Loader: next() before start_epoch()");
  }
  if (slots_.empty()) {
    return std::nullopt;
  }
  std::shared_ptr<Slot> slot;
  const auto start = std::chrono::steady_clock::now();
  {
    std::unique_lock lock(mutex_);
    batch_ready_.wait(lock, [this] { return slots_.front()->missing == 0; });
    slot = slots_.front();
    slots_.pop_front();
    ++first_slot_;
  }
  stats_.wait_seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  try {
    if (slot->error) {
      std::rethrow_exception(slot->error);
    }
    report_corrupt(*slot);
  } catch (...) {
    const std::lock_guard lock(mutex_);
    slots_.clear();
    throw;
  }
  add_slots();
  if (options_.device != nullptr) options_.device->hand_over(slot->batch.images);
  return std::move(slot->batch);
}

void Loader::report_corrupt(const Slot& slot) {
  std::vector<std::string> messages;
  for (const std::vector<CorruptImage>& row : slot.corrupt) {
    for (const CorruptImage& image : row) {
      if (corrupt_.insert(image.index).second) {
        messages.push_back(image.message);
        log::warn("corrupt image skipped: " + image.message);
      }
    }
  }
  stats_.corrupt = std::ssize(corrupt_);
  const auto samples = static_cast<double>(samples_per_epoch());
  const double limit = options_.max_corrupt_share > 0 ? std::max(1.0, options_.max_corrupt_share * samples) : 0.0;
  if (messages.empty() || static_cast<double>(stats_.corrupt) <= limit) {
    return;
  }
  std::ostringstream text;
  text << "too many corrupt images: " << stats_.corrupt << " of the epoch's " << samples_per_epoch() << " ("
       << 100.0 * static_cast<double>(stats_.corrupt) / samples << " %), more than max_corrupt_share "
       << options_.max_corrupt_share << "; among them:";
  for (std::size_t i = 0; i < std::min(messages.size(), kCorruptFilesShown); ++i) {
    text << (i > 0 ? "; " : " ") << messages[i];
  }
  text << ". Repair or remove them, or allow a larger share";
  throw std::runtime_error(text.str());
}

bool Loader::task_ready() const {
  const int64_t end = std::min((first_slot_ + std::ssize(slots_)) * options_.batch_size, std::ssize(order_));
  return !slots_.empty() && next_position_ < end;
}

/// Waits for a sample to load; a task without slot means that the loader is being destroyed.
Loader::Task Loader::take_task() {
  std::unique_lock lock(mutex_);
  work_ready_.wait(lock, [this] { return stopping_ || task_ready(); });
  if (stopping_) {
    return {};
  }
  const int64_t position = next_position_++;
  const int64_t batch = position / options_.batch_size;
  return {slots_[static_cast<std::size_t>(batch - first_slot_)], position % options_.batch_size,
          order_[static_cast<std::size_t>(position)], epoch_};
}

void Loader::work() {
  for (Task task = take_task(); task.slot != nullptr; task = take_task()) {
    note_error(*task.slot, task.row, error_of([&] { load(task); }));
    const int64_t rows = finished(task);
    bool complete = false;
    {
      const std::lock_guard lock(mutex_);
      task.slot->missing -= rows;
      complete = rows > 0 && task.slot->missing == 0;
    }
    if (complete) {
      batch_ready_.notify_one();
    }
  }
}

void Loader::note_error(Slot& slot, int64_t row, std::exception_ptr error) {
  const std::lock_guard lock(mutex_);
  if (error && (!slot.error || row < slot.error_row)) {
    slot.error = std::move(error);
    slot.error_row = row;
  }
}

/// Rows of a slot are distinct objects, so that workers write to them without the lock.
void Loader::load(const Task& task) {
  Slot& slot = *task.slot;
  if (options_.device != nullptr) {
    PreparedSample& prepared = slot.prepared[static_cast<std::size_t>(task.row)];
    prepared.error = error_of([&] {
      prepared = options_.device->prepare(*dataset_, task.view, options_.seed, task.epoch, options_.corrupt);
    });
    return;
  }
  LoadedSample sample = load_sample(*dataset_, task.view, transform_, options_.seed, task.epoch, options_.corrupt);
  const auto bytes = static_cast<std::size_t>(sample.image.numel());
  std::memcpy(slot.batch.images.mutable_data_ptr<std::uint8_t>() + static_cast<std::size_t>(task.row) * bytes,
              sample.image.const_data_ptr<std::uint8_t>(), bytes);
  deliver(slot, task.row, sample);
}

/// Everything of a sample but its pixels.
void Loader::deliver(Slot& slot, int64_t row, LoadedSample& sample) const {
  const auto at = static_cast<std::size_t>(row);
  slot.batch.labels.mutable_data_ptr<int64_t>()[at] = sample.label;
  slot.batch.names[at] = std::move(sample.name);
  slot.batch.indices[at] = sample.index;
  slot.batch.views[at] = sample.view;
  slot.corrupt[at] = std::move(sample.corrupt);
}

/// How many rows are done now that the task's sample is loaded: itself, or with a device its whole group once that is
/// complete.
int64_t Loader::finished(const Task& task) {
  if (options_.device == nullptr) return 1;
  {
    const std::lock_guard lock(mutex_);
    const auto group = static_cast<std::size_t>(task.row / options_.device->group_size());
    if (--task.slot->group_missing[group] > 0) return 0;
  }
  return render_group(task);
}

int64_t Loader::render_group(const Task& task) {
  Slot& slot = *task.slot;
  const int64_t first = task.row / options_.device->group_size() * options_.device->group_size();
  const int64_t count = std::min(options_.device->group_size(), std::ssize(slot.prepared) - first);
  const std::span group =
      std::span(slot.prepared).subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(count));
  note_error(slot, first, error_of([&] {
               options_.device->render(group, slot.batch.images.narrow(0, first, count), [&](int64_t view) {
                 return load_sample(*dataset_, view, transform_, options_.seed, task.epoch, options_.corrupt);
               });
             }));
  for (int64_t i = 0; i < count; ++i) {
    PreparedSample& prepared = group[static_cast<std::size_t>(i)];
    note_error(slot, first + i, prepared.error);
    deliver(slot, first + i, prepared.sample);
    prepared = {};  // The bytes and pixels are not needed any more.
  }
  return count;
}

}  // namespace vrwkv::data

#include "train/batch_split.h"

#include <string>

#include "common/errors.h"

namespace vrwkv::train {

BatchSplit split_batch(const config::TrainOptions& options, int64_t processes) {
  const bool by_part = options.micro_batch_size > 0;
  const int64_t divisor = processes * (by_part ? options.micro_batch_size : options.grad_accumulation);
  if (options.batch_size % divisor != 0) {
    const std::string each = by_part
                                 ? std::to_string(options.micro_batch_size) + " images at once (train.micro_batch_size)"
                                 : std::to_string(options.grad_accumulation) + " parts (train.grad_accumulation)";
    const int64_t below = options.batch_size / divisor * divisor;
    throw UsageError("train.batch_size (" + std::to_string(options.batch_size) + ") cannot be shared evenly by " +
                     std::to_string(processes) + (processes == 1 ? " process" : " processes") + " with " + each +
                     "; take " + (below > 0 ? std::to_string(below) + " or " : "") + std::to_string(below + divisor));
  }
  const int64_t share = options.batch_size / processes;
  if (by_part) return {options.micro_batch_size, share / options.micro_batch_size};
  return {share / options.grad_accumulation, options.grad_accumulation};
}

}  // namespace vrwkv::train

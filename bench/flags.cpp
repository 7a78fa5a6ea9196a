#include "bench/flags.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <optional>

#include "cli/device.h"
#include "cli/flags.h"
#include "cli/output.h"
#include "common/errors.h"
#include "config/text.h"

namespace vrwkv::bench {
namespace {

constexpr int64_t kMaxThreads = 4096;

void add_common_flags(CLI::App& command, CommonFlags& flags, const std::string& dtypes) {
  command.add_option("--dtype", flags.dtype, dtypes)
      ->type_name("NAME")
      ->default_str("bfloat16 on a GPU, float32 on the CPU");
  command.add_option("--device", flags.device, "cpu, cuda, cuda:N or auto (the first GPU, else the CPU)")
      ->type_name("NAME");
  command.add_option("--threads", flags.threads, "CPU threads of LibTorch")
      ->type_name("N")
      ->default_str("one per core")
      ->check(cli::positive_integer());
  command
      .add_option("--json", flags.json,
                  "Write the results, after every row; - for stdout, the table then goes to stderr")
      ->type_name("FILE")
      ->default_str("none");
}

void add_min_time(CLI::App& command, CommonFlags& flags, const std::string& seconds) {
  command.add_option("--min-time", flags.min_time, "Seconds that the runs of each measurement take at least together")
      ->type_name("S")
      ->default_str(seconds);
}

}  // namespace

void add_ops_flags(CLI::App& command, OpsFlags& flags) {
  command.add_option("--op", flags.ops, "Operators to measure")->type_name("NAME ...")->default_str("all");
  command.add_option("--sizes", flags.sizes, "Shapes of the tokens: batch, tokens, channels")
      ->type_name("B,T,C ...")
      ->default_str("seven of the paper's models on a GPU, 8,196,192 and 128,196,192 on the CPU");
  add_common_flags(command, flags, "Type of the tensors: float64, float32, float16 or bfloat16");
  add_min_time(command, flags, "0.5");
  command.add_flag("--reference", flags.reference,
                   "At the first size also the same by LibTorch's own operations, where that is known (slow)");
}

namespace {

void add_case_flags(CLI::App& command, NetworkFlags& flags) {
  command
      .add_option("--variant", flags.variants,
                  "Models: tiny, small, base, large, vrwkv6_tiny, vrwkv6_small, vrwkv6_base")
      ->type_name("NAME ...")
      ->default_str("tiny small base");
  command.add_option("--sizes", flags.sizes, "Sides of the square images in pixels")
      ->type_name("PX,...")
      ->default_str("224,1024,2048 on a GPU, 224 on the CPU");
  command.add_option("--batch", flags.batch, "Images at once")
      ->type_name("N")
      ->default_str("tiny, small 256, base 128, large 32 (on the CPU 8), fewer for larger images")
      ->check(cli::positive_integer());
  command.add_option("--graph", flags.graph, "Record the step as a CUDA graph: auto (on a GPU), on or off")
      ->type_name("MODE")
      ->check(CLI::IsMember({"auto", "on", "off"}))
      ->capture_default_str();
  add_common_flags(command, flags, "Precision: float64, float32 or bfloat16 (autocast)");
}

}  // namespace

void add_network_flags(CLI::App& command, NetworkFlags& flags) {
  add_case_flags(command, flags);
  add_min_time(command, flags, "2");
  command
      .add_option("--kernels", flags.kernels,
                  "Also profile each step on a GPU, and show the N kernels that take longest; --json has them all")
      ->type_name("N")
      ->check(cli::positive_integer())
      ->default_str("not profiled");
}

void add_scaling_flags(CLI::App& command, ScalingFlags& flags) {
  add_case_flags(command, flags);
  command.add_option("--gradients", flags.gradients, "As train.distributed.gradients: own or bfloat16")
      ->type_name("NAME")
      ->check(CLI::IsMember({"own", "bfloat16"}))
      ->capture_default_str();
  command.add_option("--bucket-mb", flags.bucket_mb, "As train.distributed.bucket_mb")
      ->type_name("N")
      ->check(cli::positive_integer())
      ->default_str("100 on one host, else 25");
  command.add_option("--steps", flags.steps, "Steps of each measurement")
      ->type_name("N")
      ->check(cli::positive_integer())
      ->capture_default_str();
}

void add_data_flags(CLI::App& command, DataFlags& flags) {
  cli::add_config_flag(command, flags);
  command.add_option("--seconds", flags.seconds, "Length of each measurement")
      ->type_name("S")
      ->check(CLI::Range(0.05, 3600.0).description(""))
      ->capture_default_str();
  command.add_option("--workers", flags.workers, "Threads of the loader, such as 1,2,4, one after another")
      ->type_name("N,...")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->check(cli::positive_integer())
      ->default_str("1");
  command.add_option("--json", flags.json, "Write the results as JSON; - for stdout, the text then goes to stderr")
      ->type_name("FILE")
      ->default_str("none");
  cli::add_overrides(command, flags);
}

at::Device prepare(const CommonFlags& flags) {
  cli::check_output("--json", flags.json);
  const at::Device device = cli::resolve_device(flags.device);
  if (flags.threads.empty()) return device;
  const int64_t threads = config::parse_integer(flags.threads).value();
  if (threads > kMaxThreads) {
    throw UsageError("--threads: expected at most " + std::to_string(kMaxThreads) + ", got " + flags.threads);
  }
  at::set_num_threads(static_cast<int>(threads));
  return device;
}

TimerOptions timer_options(const CommonFlags& flags, double seconds) {
  TimerOptions options;
  options.min_seconds = seconds;
  if (flags.min_time.empty()) return options;
  const std::optional<double> given = config::parse_number(flags.min_time);
  if (!given || *given <= 0) {
    throw UsageError("--min-time: expected seconds, a number above 0; got '" + config::printable(flags.min_time) + "'");
  }
  options.min_seconds = *given;
  options.max_seconds = std::max(options.max_seconds, *given);
  return options;
}

}  // namespace vrwkv::bench

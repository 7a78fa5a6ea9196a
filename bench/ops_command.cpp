#include "bench/commands.h"
#include "bench/device_info.h"
#include "bench/dtypes.h"
#include "bench/ops_bench.h"
#include "bench/report_file.h"
#include "cli/run_main.h"
#include "common/errors.h"
#include "common/log.h"

namespace vrwkv::bench {
namespace {

constexpr double kSeconds = 0.5;

struct Job {
  OpCase op;
  OpSize size;
  bool reference;
};

std::vector<Job> make_jobs(const OpsFlags& flags, at::Device device) {
  const std::vector<OpSize> sizes = flags.sizes.empty() ? default_op_sizes(device) : parse_op_sizes(flags.sizes);
  std::vector<Job> jobs;
  bool any_reference = false;
  for (const OpCase& op : choose_op_cases(flags.ops)) {
    for (const OpSize& size : sizes) {
      if (size.channels % op.channel_multiple != 0) {
        const std::string rule = op.name + " takes multiples of " + std::to_string(op.channel_multiple) + " channels";
        if (!flags.ops.empty()) throw UsageError("--sizes: " + rule + ", got " + size.text());
        log::info(rule + ": " + size.text() + " left out");
        continue;
      }
      jobs.push_back({op, size, false});
      if (!flags.reference || !op.reference || size != sizes.front()) continue;
      jobs.push_back({op, size, true});
      any_reference = true;
    }
  }
  if (flags.reference && !any_reference) {
    throw UsageError("--reference: none of the operators of --op has one; add --op bi_wkv, or leave --reference out");
  }
  return jobs;
}

}  // namespace

int run_ops(const OpsFlags& flags) {
  const at::Device device = prepare(flags);
  const std::string dtype = flags.dtype.empty() ? default_dtype(device) : flags.dtype;
  const OpSettings settings{device, parse_tensor_dtype(dtype), timer_options(flags, kSeconds)};
  const std::vector<Job> jobs = make_jobs(flags, device);

  const Environment where = environment(device);
  const double copy_gbs = measure_copy_gbs(settings);
  nlohmann::ordered_json report = where.json();
  report["copy_gbs"] = copy_gbs;
  report["ops"] = nlohmann::ordered_json::array();
  std::vector<OpResult> results;
  for (const Job& job : jobs) {
    log::info("measuring " + job.op.name + " " + job.size.text() + (job.reference ? " (reference)" : ""));
    results.push_back(measure_op(job.op, job.size, settings, job.reference));
    report["ops"].push_back(op_json(results.back(), copy_gbs));
    if (flags.json != "-") write_report(flags.json, report);
  }
  print_text(flags.json, where.text() + "; copy (read + written): " + decimal(copy_gbs, 1) + " GB/s\n" +
                             op_table(results, copy_gbs).text() + reference_ratios(results));
  if (flags.json == "-") write_report(flags.json, report);
  return cli::kSuccess;
}

}  // namespace vrwkv::bench

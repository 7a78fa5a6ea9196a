#include "bench/kernel_times.h"

#include <torch/csrc/autograd/profiler_kineto.h>

#include <algorithm>
#include <functional>
#include <map>
#include <set>

#include "bench/timer.h"

namespace vrwkv::bench {
namespace {

constexpr int kSteps = 5;
constexpr double kNsPerUs = 1e3;
constexpr double kPercent = 100;
constexpr size_t kNameWidth = 72;  // Of a table's row; template arguments can take pages.

std::string shortened(const std::string& name) {
  const std::string plain = name.starts_with("void ") ? name.substr(5) : name;
  return plain.size() <= kNameWidth ? plain : plain.substr(0, kNameWidth - 3) + "...";
}

}  // namespace

std::vector<KernelTime> kernel_times(const std::function<void()>& step, at::Device device) {
  namespace impl = torch::profiler::impl;
  namespace profiler = torch::autograd::profiler;
  const impl::ProfilerConfig config(impl::ProfilerState::KINETO);
  const std::set<impl::ActivityType> activities{impl::ActivityType::CUDA};
  synchronize(device);
  profiler::prepareProfiler(config, activities);
  profiler::enableProfiler(config, activities);
  for (int i = 0; i < kSteps; ++i) step();
  synchronize(device);
  const auto trace = profiler::disableProfiler();

  std::map<std::string, KernelTime> by_name;
  for (const profiler::KinetoEvent& event : trace->events()) {
    if (event.deviceType() != c10::DeviceType::CUDA || event.durationNs() == 0) continue;
    KernelTime& kernel = by_name[event.name()];
    kernel.calls += 1.0 / kSteps;
    kernel.step_us += static_cast<double>(event.durationNs()) / kNsPerUs / kSteps;
  }
  std::vector<KernelTime> kernels;
  for (auto& [name, kernel] : by_name) {
    kernel.name = name;
    kernels.push_back(std::move(kernel));
  }
  std::ranges::stable_sort(kernels, std::greater{}, &KernelTime::step_us);
  return kernels;
}

Table kernel_table(const std::vector<KernelTime>& kernels, int64_t rows) {
  KernelTime sum, rest;
  for (const KernelTime& kernel : kernels) {
    sum.calls += kernel.calls;
    sum.step_us += kernel.step_us;
  }
  Table table({{"kernel", Align::left}, {"calls a step"}, {"us a step"}, {"%"}});
  const auto add = [&](const std::string& name, double calls, double step_us) {
    table.add({name, decimal(calls, 1), decimal(step_us, 1), decimal(kPercent * step_us / sum.step_us, 1)});
  };
  for (size_t i = 0; i < kernels.size(); ++i) {
    if (i < static_cast<size_t>(rows)) {
      add(shortened(kernels[i].name), kernels[i].calls, kernels[i].step_us);
    } else {
      rest.calls += kernels[i].calls;
      rest.step_us += kernels[i].step_us;
    }
  }
  if (rest.calls > 0) add("all others", rest.calls, rest.step_us);
  add("sum", sum.calls, sum.step_us);
  return table;
}

nlohmann::ordered_json kernel_json(const std::vector<KernelTime>& kernels) {
  auto rows = nlohmann::ordered_json::array();
  for (const KernelTime& kernel : kernels) {
    rows.push_back({{"name", kernel.name}, {"calls", kernel.calls}, {"step_us", kernel.step_us}});
  }
  return rows;
}

}  // namespace vrwkv::bench

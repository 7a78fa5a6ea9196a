#include "bench/ops_bench.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cmath>

#include "bench/device_info.h"
#include "bench/dtypes.h"
#include "bench/out_of_memory.h"

namespace vrwkv::bench {
namespace {

using Tensors = OpCase::Tensors;

constexpr int64_t kCopyBytesGpu = int64_t{1} << 30;
constexpr int64_t kCopyBytesCpu = int64_t{256} << 20;
/// Inputs that are read again come from memory when this many caches of other inputs were read in between.
constexpr double kCachesBetween = 2;
/// Tiny inputs (tests) stay in the cache rather than being copied without end.
constexpr int64_t kMaxCopies = 64;

/// Inputs, and for the backward pass the retained graph that is walked again and again.
struct InputSet {
  Tensors inputs, leaves, outputs, gradients;
};

using Forward = std::function<Tensors(const OpSize&, const Tensors&)>;

Tensors floating(const Tensors& tensors) {
  Tensors chosen;
  std::ranges::copy_if(tensors, std::back_inserter(chosen), [](const auto& t) { return t.is_floating_point(); });
  return chosen;
}

std::vector<InputSet> make_sets(const OpCase& op, const OpSize& size, const OpSettings& settings) {
  const auto options = at::TensorOptions(settings.dtype).device(settings.device);
  std::vector<InputSet> sets(1);
  sets.front().inputs = op.make_inputs(size, options);
  double bytes = 0;
  for (const at::Tensor& input : sets.front().inputs) bytes += static_cast<double>(input.nbytes());
  const double needed = kCachesBetween * static_cast<double>(cache_bytes(settings.device)) / std::max(bytes, 1.0);
  const auto count = std::clamp<int64_t>(std::llround(std::ceil(needed)), 1, kMaxCopies);
  for (int64_t i = 1; i < count; ++i) sets.push_back({op.make_inputs(size, options), {}, {}, {}});
  return sets;
}

void build_graph(InputSet& set, const OpSize& size, const Forward& forward) {
  set.leaves = floating(set.inputs);
  for (at::Tensor& leaf : set.leaves) leaf.requires_grad_();
  set.outputs = forward(size, set.inputs);
  for (const at::Tensor& output : set.outputs) set.gradients.push_back(at::randn_like(output).contiguous());
}

/// `call` for one set after the other, again and again.
Timing measure_in_turn(std::vector<InputSet>& sets, const OpSettings& settings, auto call) {
  std::size_t next = 0;
  const auto one = [&] {
    call(sets[next]);
    next = (next + 1) % sets.size();
  };
  TimerOptions timer = settings.timer;
  timer.hide_launches = true;
  return measure(one, settings.device, timer);
}

Timing measure_forward(const OpCase& op, const OpSize& size, const OpSettings& settings, const Forward& forward) {
  const at::NoGradGuard no_grad;
  std::vector<InputSet> sets = make_sets(op, size, settings);
  return measure_in_turn(sets, settings, [&](InputSet& set) { forward(size, set.inputs); });
}

Timing measure_backward(const OpCase& op, const OpSize& size, const OpSettings& settings, const Forward& forward) {
  std::vector<InputSet> sets = make_sets(op, size, settings);
  for (InputSet& set : sets) build_graph(set, size, forward);
  return measure_in_turn(sets, settings, [](InputSet& set) {
    torch::autograd::grad(set.outputs, set.leaves, set.gradients, /*retain_graph=*/true, /*create_graph=*/false,
                          /*allow_unused=*/true);  // with one token the decay of Bi-WKV does not count
  });
}

nlohmann::ordered_json pass_json(const std::optional<Pass>& pass, double copy_gbs) {
  if (!pass) return nullptr;
  const Timing& timing = pass->timing;
  return {{"ms", timing.median_ms},
          {"p10_ms", timing.p10_ms},
          {"p90_ms", timing.p90_ms},
          {"runs", timing.runs},
          {"bytes", pass->bytes},
          {"gbs", pass->gbs()},
          {"copy_share", pass->gbs() / copy_gbs}};
}

std::string name_of(const OpResult& result) { return result.op + (result.is_reference ? " (reference)" : ""); }

}  // namespace

double measure_copy_gbs(const OpSettings& settings) {
  const int64_t bytes = settings.device.is_cpu() ? kCopyBytesCpu : kCopyBytesGpu;
  const auto options = at::TensorOptions(at::kFloat).device(settings.device);
  const at::Tensor source = at::ones({bytes / static_cast<int64_t>(sizeof(float))}, options);
  const at::Tensor target = at::zeros_like(source);
  const Timing timing = measure([&] { target.copy_(source); }, settings.device, settings.timer);
  return Pass{timing, 2.0 * static_cast<double>(bytes)}.gbs();
}

OpResult measure_op(const OpCase& op, const OpSize& size, const OpSettings& settings, bool reference) {
  OpResult result{op.name, size, settings.dtype, reference, false, {}, {}};
  const Forward& forward = reference ? op.reference : op.forward;
  const auto element_bytes = static_cast<int64_t>(c10::elementSize(settings.dtype));
  result.out_of_memory = !fits_in_memory(settings.device, [&] {
    result.forward = Pass{measure_forward(op, size, settings, forward), op.forward_bytes(size, element_bytes)};
    if (!op.backward_bytes) return;
    result.backward = Pass{measure_backward(op, size, settings, forward), op.backward_bytes(size, element_bytes)};
  });
  return result;
}

Table op_table(const std::vector<OpResult>& results, double copy_gbs) {
  Table table({{"op", Align::left},
               {"B,T,C", Align::left},
               {"dtype", Align::left},
               {"forward ms"},
               {"GB/s"},
               {"% of copy"},
               {"backward ms"},
               {"GB/s"},
               {"% of copy"},
               {"", Align::left}});
  for (const OpResult& result : results) {
    std::vector<std::string> cells{name_of(result), result.size.text(), tensor_dtype_name(result.dtype)};
    for (const std::optional<Pass>& pass : {result.forward, result.backward}) {
      cells.push_back(milliseconds(pass ? std::optional(pass->timing.median_ms) : std::nullopt));
      cells.push_back(decimal(pass ? std::optional(pass->gbs()) : std::nullopt, 1));
      cells.push_back(decimal(pass ? std::optional(100 * pass->gbs() / copy_gbs) : std::nullopt, 1));
    }
    cells.emplace_back(result.out_of_memory ? "out of memory" : "");
    table.add(std::move(cells));
  }
  return table;
}

nlohmann::ordered_json op_json(const OpResult& result, double copy_gbs) {
  return {{"op", result.op},
          {"size", {result.size.batch, result.size.tokens, result.size.channels}},
          {"dtype", tensor_dtype_name(result.dtype)},
          {"reference", result.is_reference},
          {"out_of_memory", result.out_of_memory},
          {"forward", pass_json(result.forward, copy_gbs)},
          {"backward", pass_json(result.backward, copy_gbs)}};
}

std::string reference_ratios(const std::vector<OpResult>& results) {
  std::string text;
  for (const OpResult& slow : results) {
    if (!slow.is_reference) continue;
    const auto fast = std::ranges::find_if(results, [&](const OpResult& other) {
      return !other.is_reference && other.op == slow.op && other.size == slow.size;
    });
    if (fast == results.end() || !fast->forward || !slow.forward) continue;
    const auto ratio = [](const Pass& a, const Pass& b) { return decimal(a.timing.median_ms / b.timing.median_ms, 1); };
    text += slow.op + " " + slow.size.text() + ": LibTorch's own operations take " +
            ratio(*slow.forward, *fast->forward) + " times as long forward";
    if (slow.backward && fast->backward) text += ", " + ratio(*slow.backward, *fast->backward) + " times backward";
    text += "\n";
  }
  return text;
}

}  // namespace vrwkv::bench

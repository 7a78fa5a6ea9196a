#include "bench/op_cases.h"

#include <ATen/ATen.h>
#include <ATen/OpMathType.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "bench/tensor_scan.h"
#include "common/errors.h"
#include "config/nearest_name.h"
#include "ops/bi_wkv.h"
#include "ops/bi_wkv6.h"
#include "ops/bi_wkv6_head.h"
#include "ops/bi_wkv_gated.h"
#include "ops/channel_mix.h"
#include "ops/head_norm_gate.h"
#include "ops/linear_residual.h"
#include "ops/linear_residual_channel_mix.h"
#include "ops/patch_embed.h"
#include "ops/q_shift.h"
#include "ops/residual_add.h"
#include "ops/squared_relu.h"
#include "ops/squared_relu_mlp.h"
#include "ops/token_shift_blend.h"
#include "ops/token_shift_linear.h"
#include "ops/token_shift_mix.h"

namespace vrwkv::bench {
namespace {

at::Tensor tokens_like(const OpSize& size, const at::TensorOptions& options) {
  return at::randn({size.batch, size.tokens, size.channels}, options);
}

/// `options` with the dtype that an operator on them computes in.
at::TensorOptions sums_options(const at::TensorOptions& options) {
  return options.dtype(at::toOpMathType(c10::typeMetaToScalarType(options.dtype())));
}

/// w, u, k, v in the ranges with which training starts.
OpCase::Tensors bi_wkv_inputs(const OpSize& size, const at::TensorOptions& options) {
  const at::TensorOptions sums = sums_options(options);
  const auto tokens = static_cast<double>(size.tokens);
  const at::Tensor decay = at::rand({size.channels}, sums) * 8 - 5;
  const at::Tensor first = at::rand({size.channels}, sums) - 1.5;
  return {decay / tokens, first / tokens, tokens_like(size, options), tokens_like(size, options)};
}

/// Channels of a head: those of VRWKV6 where C is made of them.
int64_t head_of(const OpSize& size) { return std::gcd(size.channels, ops::kBiWkv6HeadSize); }

/// x as a network keeps it beside branches of the dtype of `options`: float32, or float64 beside float64.
at::Tensor residual_like(const OpSize& size, const at::TensorOptions& options) {
  return tokens_like(size, sums_options(options));
}

/// A linear layer's weights as a network keeps them, which give results of the size of its inputs.
at::Tensor weights_like(int64_t rows, int64_t columns, const at::TensorOptions& options) {
  return at::randn({rows, columns}, sums_options(options)) / std::sqrt(static_cast<double>(columns));
}

/// `wide` tensors [B, T, C] in the dtype of residual_like and `narrow` ones in that of the measurement.
OpCase::Bytes residual_tensors(double wide, double narrow) {
  return [=](const OpSize& size, int64_t element_bytes) {
    return whole_tensors(wide)(size, std::max<int64_t>(element_bytes, 4)) + whole_tensors(narrow)(size, element_bytes);
  };
}

constexpr int64_t kHiddenRate = 4;  ///< Hidden channels of a channel mix for each channel.

/// `tokens` tensors [B, T, C], `hidden` of the hidden channels, and both weights, or their gradients too, `weights`
/// times.
OpCase::Bytes mlp_tensors(double tokens, double hidden, double weights) {
  return [=](const OpSize& size, int64_t element_bytes) {
    const auto matrix = static_cast<double>(kHiddenRate * size.channels * size.channels);
    return whole_tensors(tokens + hidden * kHiddenRate)(size, element_bytes) +
           weights * 2 * matrix * static_cast<double>(std::max<int64_t>(element_bytes, 4));
  };
}

/// `inputs` and behind them the parameters of a channel mix, see channel_mix_parameters().
OpCase::Tensors with_channel_mix(OpCase::Tensors inputs, const OpSize& size, const at::TensorOptions& options) {
  for (int i = 0; i < 4; ++i) inputs.push_back(at::rand({size.channels}, sums_options(options)));
  const int64_t hidden = kHiddenRate * size.channels;
  inputs.push_back(weights_like(hidden, size.channels, options));
  inputs.push_back(weights_like(size.channels, size.channels, options));
  inputs.push_back(weights_like(size.channels, hidden, options));
  return inputs;
}

/// Those from inputs[first] on.
ops::ChannelMixParameters channel_mix_parameters(const OpCase::Tensors& inputs, size_t first) {
  return {.mix_k = inputs[first],
          .mix_r = inputs[first + 1],
          .key = inputs[first + 4],
          .receptance = inputs[first + 5],
          .value = inputs[first + 6],
          .norm_weight = inputs[first + 2],
          .norm_bias = inputs[first + 3]};
}

constexpr int64_t kPatch = 16, kColours = 3;

/// Images whose patches are the tokens, the embedding's weight and bias, the places, and an empty tensor of the dtype
/// that the tokens are to have.
OpCase::Tensors patch_embed_inputs(const OpSize& size, const at::TensorOptions& options) {
  const auto [height, width] = grid_of(size.tokens);
  const at::TensorOptions sums = sums_options(options);
  return {
      at::randn({size.batch, kColours, height * kPatch, width * kPatch}, sums),
      weights_like(size.channels, kColours * kPatch * kPatch, options).view({size.channels, kColours, kPatch, kPatch}),
      at::randn({size.channels}, sums), at::randn({1, size.tokens, size.channels}, sums), at::empty({0}, options)};
}

double patches_to_tokens(const OpSize& size, int64_t element_bytes) {
  const OpSize patches{size.batch, size.tokens, kColours * kPatch * kPatch};
  return whole_tensors(1)(patches, std::max<int64_t>(element_bytes, 4)) + whole_tensors(1)(size, element_bytes);
}

}  // namespace

OpCase::Bytes whole_tensors(double count) {
  return [count](const OpSize& size, int64_t element_bytes) {
    return count * static_cast<double>(size.batch * size.tokens * size.channels * element_bytes);
  };
}

std::pair<int64_t, int64_t> grid_of(int64_t tokens) {
  int64_t height = 1;
  for (int64_t divisor = 1; divisor * divisor <= tokens; ++divisor) {
    if (tokens % divisor == 0) height = divisor;
  }
  return {height, tokens / height};
}

const std::vector<OpCase>& op_cases() {
  using Tensors = OpCase::Tensors;
  static const std::vector<OpCase> cases{
      {.name = "bi_wkv",
       .forward_bytes = whole_tensors(3),   // k, v -> y
       .backward_bytes = whole_tensors(5),  // k, v, gy -> gk, gv
       .make_inputs = bi_wkv_inputs,
       .forward = [](const OpSize&, const Tensors& in) -> Tensors { return {ops::bi_wkv(in[0], in[1], in[2], in[3])}; },
       .reference = [](const OpSize&, const Tensors& in) -> Tensors {
         return {tensor_scan_bi_wkv(in[0], in[1], in[2], in[3])};
       }},
      {.name = "bi_wkv_gated",
       .forward_bytes = whole_tensors(4),   // k, v, r -> y
       .backward_bytes = whole_tensors(7),  // k, v, r, gy -> gk, gv, gr
       .make_inputs = [](const OpSize& size, const at::TensorOptions& options) -> Tensors {
         Tensors inputs = bi_wkv_inputs(size, options);
         inputs.push_back(tokens_like(size, options));
         return inputs;
       },
       .forward = [](const OpSize&, const Tensors& in) -> Tensors {
         return {ops::bi_wkv_gated(in[0], in[1], in[2], in[3], in[4])};
       },
       .reference = {}},
      {.name = "token_shift_mix",
       .forward_bytes = whole_tensors(4),   // x -> x_k, x_v, x_r
       .backward_bytes = whole_tensors(5),  // x and their gradients -> gx
       .make_inputs = [](const OpSize& size, const at::TensorOptions& options) -> Tensors {
         Tensors inputs{tokens_like(size, options)};
         for (int i = 0; i < 5; ++i) inputs.push_back(at::rand({size.channels}, sums_options(options)));
         return inputs;
       },
       .forward = [](const OpSize& size, const Tensors& in) -> Tensors {
         const auto [height, width] = grid_of(size.tokens);
         return ops::token_shift_mix(in[0], {in[1], in[2], in[3]}, in[4], in[5], height, width);
       },
       .reference = {}},
      {.name = "token_shift_blend",
       .forward_bytes = whole_tensors(11),   // x, shares -> x_w, x_k, x_v, x_r, x_g
       .backward_bytes = whole_tensors(17),  // x, shares and the gradients of the outputs -> gx, gshares
       .make_inputs = [](const OpSize& size, const at::TensorOptions& options) -> Tensors {
         Tensors inputs{tokens_like(size, options), at::randn({5, size.batch, size.tokens, size.channels}, options)};
         for (int i = 0; i < 7; ++i) inputs.push_back(at::rand({size.channels}, sums_options(options)));
         return inputs;
       },
       .forward = [](const OpSize& size, const Tensors& in) -> Tensors {
         const auto [height, width] = grid_of(size.tokens);
         return ops::token_shift_blend(in[0], {in[2], in[3], in[4], in[5], in[6]}, in[1], in[7], in[8], height, width,
                                       head_of(size));
       },
       .reference = {}},
      {.name = "bi_wkv6",
       .forward_bytes = residual_tensors(1, 4),   // w, r, k, v -> y
       .backward_bytes = residual_tensors(2, 7),  // w, r, k, v, gy -> gw, gr, gk, gv
       .make_inputs = [](const OpSize& size, const at::TensorOptions& options) -> Tensors {
         const int64_t heads = size.channels / ops::kBiWkv6HeadSize;
         // Decays exp(-exp(w)) between 0.37 and 1.
         return {tokens_like(size, options), tokens_like(size, options), tokens_like(size, options),
                 at::rand({size.batch, size.tokens, size.channels}, sums_options(options)) * 6 - 6,
                 at::randn({heads, ops::kBiWkv6HeadSize}, sums_options(options))};
       },
       .forward = [](const OpSize&, const Tensors& in) -> Tensors {
         return {ops::bi_wkv6(in[0], in[1], in[2], in[3], in[4])};
       },
       .reference = {},
       .channel_multiple = ops::kBiWkv6HeadSize},
      {.name = "head_norm_gate",
       .forward_bytes = whole_tensors(3),   // y, gate -> result
       .backward_bytes = whole_tensors(5),  // y, gate and the gradient -> gy, ggate
       .make_inputs = [](const OpSize& size, const at::TensorOptions& options) -> Tensors {
         const auto parameter = [&] { return at::rand({size.channels}, sums_options(options)); };
         return {tokens_like(size, options), tokens_like(size, options), parameter(), parameter()};
       },
       .forward = [](const OpSize& size, const Tensors& in) -> Tensors {
         return {ops::head_norm_gate(in[0], in[1], in[2], in[3], size.channels / head_of(size), 1e-5)};
       },
       .reference = [](const OpSize& size, const Tensors& in) -> Tensors {
         const auto dtype = in[2].scalar_type();
         const at::Tensor rows = in[0].to(dtype).flatten(0, 1);
         const at::Tensor normed = at::group_norm(rows, size.channels / head_of(size), in[2], in[3]).view_as(in[0]);
         return {(normed * at::silu(in[1].to(dtype))).to(in[0].scalar_type())};
       }},
      {.name = "squared_relu",
       .forward_bytes = whole_tensors(2),   // x -> y
       .backward_bytes = whole_tensors(3),  // y, gy -> gx
       .make_inputs = [](const OpSize& size, const at::TensorOptions& options) -> Tensors {
         return {tokens_like(size, options)};
       },
       .forward = [](const OpSize&, const Tensors& in) -> Tensors { return {ops::squared_relu(in[0])}; },
       .reference = [](const OpSize&, const Tensors& in) -> Tensors { return {at::relu(in[0]).square()}; }},
      {.name = "squared_relu_mlp",
       .forward_bytes = mlp_tensors(2, 1, 1),   // x, weights -> hidden, y
       .backward_bytes = mlp_tensors(3, 1, 2),  // x, gy, hidden, weights -> gx and the weights' gradients
       .make_inputs = [](const OpSize& size, const at::TensorOptions& options) -> Tensors {
         return {tokens_like(size, options), weights_like(kHiddenRate * size.channels, size.channels, options),
                 weights_like(size.channels, kHiddenRate * size.channels, options)};
       },
       .forward = [](const OpSize&, const Tensors& in) -> Tensors {
         return {ops::squared_relu_mlp(in[0], in[1], in[2])};
       },
       .reference = [](const OpSize&, const Tensors& in) -> Tensors {
         const auto narrow = [&](const at::Tensor& weight) { return weight.to(in[0].scalar_type()); };
         return {at::linear(at::relu(at::linear(in[0], narrow(in[1]))).square(), narrow(in[2]))};
       }},
      {.name = "q_shift",
       .forward_bytes = whole_tensors(2),   // x -> y
       .backward_bytes = whole_tensors(2),  // gy -> gx
       .make_inputs = [](const OpSize& size, const at::TensorOptions& options) -> Tensors {
         return {tokens_like(size, options)};
       },
       .forward = [](const OpSize& size, const Tensors& in) -> Tensors {
         const auto [height, width] = grid_of(size.tokens);
         return {ops::q_shift(in[0], height, width)};
       },
       .reference = {}},
      {.name = "residual_add",
       .forward_bytes = residual_tensors(2, 3),   // x, value, gate -> x, feed
       .backward_bytes = residual_tensors(2, 6),  // gx', gfeed, feed, value, gate -> gx, gvalue, ggate
       .make_inputs = [](const OpSize& size, const at::TensorOptions& options) -> Tensors {
         return {residual_like(size, options), tokens_like(size, options), tokens_like(size, options)};
       },
       .forward = [](const OpSize&, const Tensors& in) -> Tensors {
         const auto out = ops::residual_add(in[0], {.value = in[1], .gate = in[2]}, ops::Feed::standardized, 1e-5);
         return {out.x, out.feed};
       },
       .reference = [](const OpSize& size, const Tensors& in) -> Tensors {
         const at::Tensor x = in[0] + at::sigmoid(in[2]) * in[1];
         return {x, at::layer_norm(x, {size.channels}).to(in[1].scalar_type())};
       }},
      {.name = "linear_residual",
       .forward_bytes = residual_tensors(2, 2),   // x, value -> x, feed
       .backward_bytes = residual_tensors(2, 4),  // gx', gfeed, feed, value -> gx, gvalue
       .make_inputs = [](const OpSize& size, const at::TensorOptions& options) -> Tensors {
         return {residual_like(size, options), tokens_like(size, options),
                 weights_like(size.channels, size.channels, options)};
       },
       .forward = [](const OpSize&, const Tensors& in) -> Tensors {
         const auto out = ops::linear_residual(in[0], in[1], in[2], {}, ops::Feed::standardized, 1e-5);
         return {out.x, out.feed};
       },
       .reference = {}},
      {.name = "patch_embed",
       .forward_bytes = patches_to_tokens,
       .backward_bytes = {},
       .make_inputs = patch_embed_inputs,
       .forward = [](const OpSize&, const Tensors& in) -> Tensors {
         return {ops::patch_embed(in[0], in[1], in[2], in[3], in[4].scalar_type())};
       },
       .reference = [](const OpSize&, const Tensors& in) -> Tensors {
         const at::ScalarType dtype = in[4].scalar_type();
         const at::Tensor maps = at::conv2d(in[0].to(dtype), in[1].to(dtype), in[2].to(dtype), {kPatch, kPatch});
         return {(maps.flatten(2).transpose(1, 2) + in[3]).to(dtype)};
       }},
      {.name = "token_shift_linear",
       .forward_bytes = whole_tensors(4),  // x -> k, v, r
       .backward_bytes = {},
       .make_inputs = [](const OpSize& size, const at::TensorOptions& options) -> Tensors {
         Tensors inputs{tokens_like(size, options)};
         for (int i = 0; i < 5; ++i) inputs.push_back(at::rand({size.channels}, sums_options(options)));
         for (int i = 0; i < 3; ++i) inputs.push_back(weights_like(size.channels, size.channels, options));
         return inputs;
       },
       .forward = [](const OpSize& size, const Tensors& in) -> Tensors {
         const auto [height, width] = grid_of(size.tokens);
         return ops::token_shift_linear(in[0], {in[1], in[2], in[3]}, {in[6], in[7], in[8]}, in[4], in[5], height,
                                        width);
       },
       .reference = {}},
      {.name = "channel_mix",
       .forward_bytes = residual_tensors(2, 2),  // x, feed -> x, feed
       .backward_bytes = {},
       .make_inputs = [](const OpSize& size, const at::TensorOptions& options) -> Tensors {
         return with_channel_mix({residual_like(size, options), tokens_like(size, options)}, size, options);
       },
       .forward = [](const OpSize& size, const Tensors& in) -> Tensors {
         const auto [height, width] = grid_of(size.tokens);
         const auto out = ops::channel_mix(in[0], in[1], channel_mix_parameters(in, 2), height, width,
                                           ops::Feed::standardized, 1e-5);
         return {out.x, out.feed};
       },
       .reference = {}},
      {.name = "linear_residual_channel_mix",
       .forward_bytes = residual_tensors(2, 2),  // x, branch -> x, feed
       .backward_bytes = {},
       .make_inputs = [](const OpSize& size, const at::TensorOptions& options) -> Tensors {
         return with_channel_mix({residual_like(size, options), tokens_like(size, options),
                                  weights_like(size.channels, size.channels, options)},
                                 size, options);
       },
       .forward = [](const OpSize& size, const Tensors& in) -> Tensors {
         const auto [height, width] = grid_of(size.tokens);
         const auto out =
             ops::linear_residual_channel_mix(in[0], in[1], in[2], channel_mix_parameters(in, 3), height, width,
                                              ops::Feed::standardized, ops::Feed::standardized, 1e-5);
         return {out.x, out.feed};
       },
       .reference = {}},
  };
  return cases;
}

std::vector<OpCase> choose_op_cases(const std::vector<std::string>& names) {
  if (names.empty()) return op_cases();
  std::vector<OpCase> chosen;
  for (const std::string& name : names) {
    const auto found = std::ranges::find(op_cases(), name, &OpCase::name);
    if (found == op_cases().end()) {
      std::string text = "--op: expected ";
      std::vector<std::string> known;
      for (const OpCase& op : op_cases()) {
        text.append(known.empty() ? "" : ", ").append(op.name);
        known.push_back(op.name);
      }
      const auto nearest = config::nearest_name(name, known);
      throw UsageError(text + "; got '" + name + "'" + (nearest ? " (did you mean '" + *nearest + "'?)" : ""));
    }
    chosen.push_back(*found);
  }
  return chosen;
}

}  // namespace vrwkv::bench

#include "deploy/onnx_wkv.h"

#include <ATen/Functions.h>

#include <vector>

namespace vrwkv::deploy {
namespace {

constexpr double kNothing = -1e30;  ///< Exponent of a sum that is empty; finite, as inf - inf is no number.
constexpr int64_t kOnnxFloat = 1, kOnnxDouble = 11;
constexpr int64_t kChunks = 32;  ///< Of the public kernel.

/// Sums over tokens, all [B, T, C]: e^exponent times values, and e^exponent times weights.
struct Sums {
  std::string exponent, values, weights;
};

/// A summand of numerator and denominator: factor e^exponent times values, and times weights. An empty string is 1.
struct Term {
  std::string exponent, values, weights = "", factor = "";
};

/// Writes the operators for one layer.
class Wkv {
 public:
  Wkv(OnnxBuilder& onnx, torch::Tensor w, torch::Tensor u, int64_t tokens)
      : onnx_(onnx), w_(std::move(w)), u_(std::move(u)), tokens_(tokens) {}

  std::string constant(const torch::Tensor& tensor) { return onnx_.constant(tensor.to(w_.scalar_type())); }
  std::string scaled_w(int64_t factor) { return constant(w_ * static_cast<double>(factor)); }

  /// x one place later for `by` = 1, so that token t has what t - by had; `fill` for those that have none.
  std::string shift(const std::string& x, int64_t by, double fill) {
    const int64_t size = std::abs(by);
    const std::vector<int64_t> pads = by > 0 ? std::vector<int64_t>{0, size, 0, 0, 0, 0}  //
                                             : std::vector<int64_t>{0, 0, 0, 0, size, 0};
    const std::string padded = onnx_.node("Pad", {x, onnx_.constant(pads), constant(torch::full({}, fill))});
    return by > 0 ? onnx_.slice(padded, 1, 0, tokens_) : onnx_.slice(padded, 1, size, tokens_ + size);
  }
  Sums shift(const Sums& sums, int64_t by) {
    return {shift(sums.exponent, by, kNothing), shift(sums.values, by, 0), shift(sums.weights, by, 0)};
  }

  /// Of all tokens before each one (`direction` 1), or after it (-1): e^{k_i - (|t - i| - 1) w}.
  Sums others(const std::string& k, const std::string& v, int64_t direction) {
    const std::string one = constant(torch::ones({}));
    Sums sums{k, v, onnx_.node("Expand", {one, onnx_.node("Shape", {k})})};
    for (int64_t reach = 1; reach < tokens_; reach *= 2) {
      const Sums far = shift(sums, direction * reach);
      const std::string faded = onnx_.sub(far.exponent, scaled_w(reach));
      const std::string top = onnx_.node("Max", {sums.exponent, faded});
      const std::string a = onnx_.node("Exp", {onnx_.sub(sums.exponent, top)});
      const std::string b = onnx_.node("Exp", {onnx_.sub(faded, top)});
      sums = {top, onnx_.add(onnx_.mul(a, sums.values), onnx_.mul(b, far.values)),
              onnx_.add(onnx_.mul(a, sums.weights), onnx_.mul(b, far.weights))};
    }
    return shift(sums, direction);
  }

  Term own(const std::string& k, const std::string& v) { return {onnx_.add(k, constant(u_)), v}; }

  std::string ratio(const std::vector<Term>& terms) {
    std::vector<std::string> exponents;
    for (const Term& term : terms) exponents.push_back(term.exponent);
    const std::string top = onnx_.node("Max", exponents);
    std::string numerator, denominator;
    for (const Term& term : terms) {
      std::string share = onnx_.node("Exp", {onnx_.sub(term.exponent, top)});
      if (!term.factor.empty()) share = onnx_.mul(share, term.factor);
      const std::string value = onnx_.mul(share, term.values);
      const std::string weight = term.weights.empty() ? share : onnx_.mul(share, term.weights);
      numerator = numerator.empty() ? value : onnx_.add(numerator, value);
      denominator = denominator.empty() ? weight : onnx_.add(denominator, weight);
    }
    return onnx_.div(numerator, denominator);
  }

  /// The terms of the public kernel besides a token's own and those after it; see ops::bi_wkv_published().
  void add_published_terms(const std::string& k, const std::string& v, std::vector<Term>& terms) {
    const int64_t length = (tokens_ + kChunks - 1) / kChunks;
    const torch::Tensor token = torch::arange(tokens_, torch::kLong);
    const torch::Tensor start = token.div(length, "floor") * length, place = token - start;

    // i < s: what the chunk's first token has gathered, faded once more for each token since, and once for itself.
    const Sums before = others(k, v, 1);
    const auto at_start = [&](const std::string& x) {
      return onnx_.node("Gather", {x, onnx_.constant(start)}, {{"axis", int64_t{1}}});
    };
    const std::string fading = onnx_.mul(constant((place + 1).unsqueeze(1)), constant(w_));
    terms.push_back({onnx_.sub(at_start(before.exponent), fading), at_start(before.values), at_start(before.weights)});

    const std::string growth = constant(1 - w_.exp());
    for (int64_t distance = 0; distance < length; ++distance) {
      const std::string exponent = distance == 0 ? k : shift(k, distance, kNothing);
      const std::string values = distance == 0 ? v : shift(v, distance, 0);
      const auto where = [&](const torch::Tensor& valid) {
        return constant(torch::where(valid, 0.0, kNothing).unsqueeze(1));
      };
      if (distance > 0) {  // s <= i < t
        const std::string inside = onnx_.add(exponent, where(place >= distance));
        terms.push_back({onnx_.sub(inside, scaled_w(distance - 1)), values});
      }
      if (distance + 1 < length) {  // s < i <= t
        const std::string inside = onnx_.add(exponent, where(place > distance));
        terms.push_back({onnx_.add(inside, scaled_w(distance)), values, "", growth});
      }
    }
  }

  /// i > t: one factor e^{-w} more than in the paper's formula.
  Term published_after(const std::string& k, const std::string& v) {
    const Sums after = others(k, v, -1);
    return {onnx_.sub(after.exponent, constant(w_)), after.values, after.weights};
  }

 private:
  OnnxBuilder& onnx_;
  torch::Tensor w_, u_;
  int64_t tokens_;
};

}  // namespace

std::string onnx_bi_wkv(OnnxBuilder& onnx, const torch::Tensor& w, const torch::Tensor& u, const std::string& k,
                        const std::string& v, int64_t tokens) {
  Wkv wkv(onnx, w, u, tokens);
  const Sums before = wkv.others(k, v, 1), after = wkv.others(k, v, -1);
  return wkv.ratio(
      {wkv.own(k, v), {before.exponent, before.values, before.weights}, {after.exponent, after.values, after.weights}});
}

std::string onnx_bi_wkv_published(OnnxBuilder& onnx, const torch::Tensor& w, const torch::Tensor& u,
                                  const std::string& k, const std::string& v, int64_t tokens) {
  Wkv wkv(onnx, w.to(torch::kDouble), u.to(torch::kDouble), tokens);
  const auto cast = [&](const std::string& x, int64_t type) { return onnx.node("Cast", {x}, {{"to", type}}); };
  const std::string wide_k = cast(k, kOnnxDouble), wide_v = cast(v, kOnnxDouble);
  std::vector<Term> terms{wkv.own(wide_k, wide_v), wkv.published_after(wide_k, wide_v)};
  wkv.add_published_terms(wide_k, wide_v, terms);
  return cast(wkv.ratio(terms), kOnnxFloat);
}

}  // namespace vrwkv::deploy

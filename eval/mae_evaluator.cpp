#include "eval/mae_evaluator.h"

#include <ATen/ATen.h>

#include <iomanip>
#include <sstream>

#include "data/random.h"
#include "eval/evaluator.h"

namespace vrwkv::eval {

at::Tensor fixed_noise(const std::vector<int64_t>& indices, int64_t tokens) {
  at::Tensor noise = at::empty({std::ssize(indices), tokens}, at::kFloat);
  auto access = noise.accessor<float, 2>();
  for (int64_t i = 0; i < access.size(0); ++i) {
    const auto index = static_cast<std::uint64_t>(indices[static_cast<std::size_t>(i)]);
    data::Generator generator(/*seed=*/0, /*epoch=*/0, index, data::RandomStream::masking);
    for (int64_t token = 0; token < tokens; ++token) access[i][token] = static_cast<float>(generator.uniform());
  }
  return noise;
}

ReconstructionLoss evaluate_autoencoder(MaskedAutoencoder model, data::Loader& loader,
                                        const data::NormalizeOptions& normalize, const Precision& precision,
                                        distributed::World& world) {
  const EvaluationMode evaluation_mode(*model);
  const at::NoGradGuard no_grad;
  const PrecisionGuard guard(precision);
  const auto sums = at::TensorOptions(at::kDouble).device(precision.device);
  at::Tensor total = at::zeros({}, sums);
  int64_t images = 0;
  loader.start_epoch(0);
  while (const auto batch = loader.next()) {
    const at::Tensor input = to_device(*batch, normalize, precision);
    const at::Tensor noise = fixed_noise(batch->indices, model->grid(input).tokens()).to(precision.device);
    total += model(input, noise).error.to(at::kDouble).sum();
    images += input.size(0);
  }
  const at::Tensor all = at::tensor({total.item<double>(), static_cast<double>(images)}, at::kDouble);
  if (world.size() > 1) world.sum(all);
  const auto value = all.accessor<double, 1>();
  return {static_cast<int64_t>(value[1]), value[0] / value[1]};
}

std::string summary_line(const ReconstructionLoss& found) {
  constexpr int kDigits = 5;
  std::ostringstream text;
  text << "loss " << std::fixed << std::setprecision(kDigits) << found.loss;
  return text.str();
}

}  // namespace vrwkv::eval

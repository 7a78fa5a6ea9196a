#include "eval/precision.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "cli/device.h"

namespace vrwkv::testing {
namespace {

TEST(Precision, AutocastComputesInTheTypeAskedFor) {
  const at::Tensor a = at::ones({2, 2});
  for (const auto& [dtype, expected] : {std::pair{config::Dtype::float32, at::kFloat},
                                        {config::Dtype::bfloat16, at::kBFloat16},
                                        {config::Dtype::float16, at::kHalf}}) {
    const eval::PrecisionGuard guard({at::kCPU, dtype});
    EXPECT_EQ(at::mm(a, a).scalar_type(), expected);
    EXPECT_EQ(eval::weights_dtype(dtype), at::kFloat);
  }
}

TEST(Precision, Tf32IsWhatTheConfigurationSays) {
  config::RunOptions options;
  options.device = "cpu";
  for (const bool tf32 : {true, false}) {
    options.tf32 = tf32;
    cli::prepare_device(options);
    EXPECT_EQ(at::globalContext().float32MatmulPrecision(),
              tf32 ? at::Float32MatmulPrecision::HIGH : at::Float32MatmulPrecision::HIGHEST);
  }
}

}  // namespace
}  // namespace vrwkv::testing

#pragma once

#include <ATen/core/Tensor.h>
#include <gtest/gtest.h>

#include <string>

namespace vrwkv::testing {

/// ||actual - expected|| / ||expected|| in float64 on the CPU; NaN and Inf in `actual` give infinity.
double relative_error(const at::Tensor& expected, const at::Tensor& actual);

/// Fails, naming `name` and the error, unless shapes agree and relative_error is at most `tolerance`. Where the
/// expected norm is below `absolute` (a gradient that is zero in truth), the norm of the difference must be below it
/// too.
::testing::AssertionResult close(const std::string& name, const at::Tensor& expected, const at::Tensor& actual,
                                 double tolerance, double absolute = 1e-6);

}  // namespace vrwkv::testing

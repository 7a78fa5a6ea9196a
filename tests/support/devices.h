#pragma once

#include <ATen/Context.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace vrwkv::testing {

/// The devices that this machine and this build can test: the CPU, and the first GPU if there is one.
inline std::vector<at::Device> devices() {
  std::vector<at::Device> all{at::kCPU};
#if defined(VRWKV_WITH_CUDA)
  if (at::globalContext().hasCUDA()) all.emplace_back(at::kCUDA, 0);
#endif
  return all;
}

/// The name of a test's device parameter.
inline std::string device_name(const ::testing::TestParamInfo<at::Device>& info) {
  return info.param.is_cuda() ? "cuda" : "cpu";
}

}  // namespace vrwkv::testing

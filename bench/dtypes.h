#pragma once

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

#include <string>

#include "config/run_config.h"

namespace vrwkv::bench {

/// --dtype of operators: float64, float32, float16 or bfloat16. Throws UsageError for another name.
at::ScalarType parse_tensor_dtype(const std::string& name);
std::string tensor_dtype_name(at::ScalarType dtype);

/// --dtype of networks, as the other programs take it: float64, float32 or bfloat16. Throws UsageError.
config::Dtype parse_network_dtype(const std::string& name);

/// Without --dtype: what one trains with there.
std::string default_dtype(at::Device device);

}  // namespace vrwkv::bench

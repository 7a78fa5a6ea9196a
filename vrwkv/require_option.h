#pragma once

#include <limits>
#include <sstream>
#include <string>

#include "common/errors.h"

namespace vrwkv {

/// Throws UsageError unless `valid`. Messages begin with the option's name; the configuration finds its line by it.
template <typename Value>
void require_option(bool valid, const std::string& name, const Value& value, const std::string& rule) {
  if (valid) return;
  std::ostringstream message;
  message.precision(std::numeric_limits<double>::max_digits10);
  message << name << " must be " << rule << ", got " << value;
  throw UsageError(message.str());
}

}  // namespace vrwkv

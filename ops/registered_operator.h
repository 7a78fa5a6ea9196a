#pragma once

#include <ATen/core/dispatch/Dispatcher.h>

#include <type_traits>

namespace vrwkv::ops {

/// The operator of this name, called with the signature of `function`, of which there is one for each name.
template <auto function>
const auto& registered_operator(const char* name) {
  using Signature = std::remove_pointer_t<decltype(function)>;
  static const auto op = c10::Dispatcher::singleton().findSchemaOrThrow(name, "").template typed<Signature>();
  return op;
}

}  // namespace vrwkv::ops

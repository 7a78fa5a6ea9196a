#pragma once

#include <c10/core/ScalarType.h>

#include <array>

namespace vrwkv {

/// How .pth files name a dtype, as "module name".
struct PthType {
  const char* storage;  ///< The class of a storage that has a dtype; empty where PyTorch has none.
  const char* dtype;    ///< Beside an untyped storage.
  at::ScalarType type;
};

inline constexpr std::array kPthTypes{PthType{"torch FloatStorage", "torch float32", at::kFloat},
                                      PthType{"torch HalfStorage", "torch float16", at::kHalf},
                                      PthType{"torch BFloat16Storage", "torch bfloat16", at::kBFloat16},
                                      PthType{"torch DoubleStorage", "torch float64", at::kDouble},
                                      PthType{"torch LongStorage", "torch int64", at::kLong},
                                      PthType{"torch IntStorage", "torch int32", at::kInt},
                                      PthType{"torch ShortStorage", "torch int16", at::kShort},
                                      PthType{"torch CharStorage", "torch int8", at::kChar},
                                      PthType{"torch ByteStorage", "torch uint8", at::kByte},
                                      PthType{"torch BoolStorage", "torch bool", at::kBool},
                                      PthType{"torch ComplexFloatStorage", "torch complex64", at::kComplexFloat},
                                      PthType{"", "torch uint16", at::kUInt16},
                                      PthType{"", "torch uint32", at::kUInt32},
                                      PthType{"", "torch uint64", at::kUInt64},
                                      PthType{"", "torch float8_e4m3fn", at::kFloat8_e4m3fn},
                                      PthType{"", "torch float8_e5m2", at::kFloat8_e5m2}};

/// The storage class of a dtype, empty where there is none.
constexpr const char* storage_class(at::ScalarType type) {
  for (const PthType& candidate : kPthTypes) {
    if (candidate.type == type) return candidate.storage;
  }
  return "";
}

}  // namespace vrwkv

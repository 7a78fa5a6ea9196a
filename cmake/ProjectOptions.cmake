# Warnings (as errors) and sanitizers for our own code. Libraries link vrwkv_options privately.
add_library(vrwkv_options INTERFACE)
# -Wno-restrict: g++ 12 wrongly reports `"literal" + std::string` (its bug 105651).
target_compile_options(vrwkv_options INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual -Werror>
  $<$<AND:$<COMPILE_LANGUAGE:CXX>,$<CXX_COMPILER_ID:GNU>>:-Wno-restrict>
  $<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wall,-Wextra,-Werror --Werror=all-warnings --expt-relaxed-constexpr>)
if(VRWKV_SANITIZE)
  # g++ 12 reports LibTorch's headers falsely when they are instrumented.
  target_compile_options(vrwkv_options INTERFACE
    $<$<AND:$<COMPILE_LANGUAGE:CXX>,$<CXX_COMPILER_ID:GNU>>:-Wno-maybe-uninitialized>)
  if(VRWKV_SANITIZE STREQUAL thread)
    set(sanitizers -fsanitize=thread)
  else()
    set(sanitizers -fsanitize=address,undefined -fno-sanitize-recover=undefined)
  endif()
  add_compile_options("$<$<COMPILE_LANGUAGE:CXX>:-fno-omit-frame-pointer;${sanitizers}>")
  add_link_options(${sanitizers})
endif()

# vrwkv_precompile(TARGET): shares one precompiled LibTorch header among all targets that include torch/torch.h.
function(vrwkv_precompile target)
  if(NOT TARGET vrwkv_torch_pch)
    file(WRITE ${CMAKE_BINARY_DIR}/torch_pch.cpp "")
    add_library(vrwkv_torch_pch OBJECT ${CMAKE_BINARY_DIR}/torch_pch.cpp)
    target_link_libraries(vrwkv_torch_pch PRIVATE LibTorch::LibTorch vrwkv_options)
    target_compile_options(vrwkv_torch_pch PRIVATE -fpch-preprocess)
    target_precompile_headers(vrwkv_torch_pch PRIVATE <torch/torch.h>)
  endif()
  target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CXX>:-fpch-preprocess>)
  get_target_property(type ${target} TYPE)
  if(type STREQUAL EXECUTABLE)
    # -fPIC instead of CMake's -fPIE: the header was compiled with it, and g++ wants the same.
    set_target_properties(${target} PROPERTIES POSITION_INDEPENDENT_CODE OFF)
    target_compile_options(${target} PRIVATE -fPIC)
  endif()
  target_precompile_headers(${target} REUSE_FROM vrwkv_torch_pch)
endfunction()

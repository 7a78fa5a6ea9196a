# LibTorch as an imported target, LibTorch::LibTorch.
#
# The wheel's own TorchConfig.cmake stops when the CUDA toolkit is absent, and adds GPU architectures of its own; a CPU
# build on a machine without nvcc must work, so the target is put together here. Looked at, in this order: Torch_DIR
# (…/share/cmake/Torch), CMAKE_PREFIX_PATH, and the virtual environment that scripts/setup.sh keeps.
set(LibTorch_ENVIRONMENT "$ENV{VRWKV_CACHE}")
if(NOT LibTorch_ENVIRONMENT)
  if(DEFINED ENV{XDG_CACHE_HOME})
    set(LibTorch_ENVIRONMENT "$ENV{XDG_CACHE_HOME}/vrwkv")
  else()
    set(LibTorch_ENVIRONMENT "$ENV{HOME}/.cache/vrwkv")
  endif()
endif()
set(hints)
if(Torch_DIR)
  cmake_path(GET Torch_DIR PARENT_PATH share)
  cmake_path(GET share PARENT_PATH share)
  cmake_path(GET share PARENT_PATH root)
  list(APPEND hints ${root})
endif()
list(APPEND hints ${CMAKE_PREFIX_PATH})
file(GLOB venv_roots "${LibTorch_ENVIRONMENT}/venv-torch-*/lib/python3*/site-packages/torch")
list(APPEND hints ${venv_roots})

# torch.utils.cmake_prefix_path is <torch>/share/cmake: accept it as well as the root.
set(roots)
foreach(hint IN LISTS hints)
  list(APPEND roots ${hint} ${hint}/../..)
endforeach()
find_path(LibTorch_INCLUDE_DIR ATen/ATen.h HINTS ${roots} PATH_SUFFIXES include NO_DEFAULT_PATH)
find_path(LibTorch_API_INCLUDE_DIR torch/torch.h HINTS ${LibTorch_INCLUDE_DIR}/torch/csrc/api/include NO_DEFAULT_PATH)
cmake_path(GET LibTorch_INCLUDE_DIR PARENT_PATH LibTorch_ROOT)
foreach(name IN ITEMS c10 torch_cpu c10_cuda torch_cuda)
  find_library(LibTorch_${name}_LIBRARY ${name} HINTS ${LibTorch_ROOT}/lib NO_DEFAULT_PATH)
endforeach()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(LibTorch
  REQUIRED_VARS LibTorch_torch_cpu_LIBRARY LibTorch_c10_LIBRARY LibTorch_INCLUDE_DIR LibTorch_API_INCLUDE_DIR
  REASON_FAILURE_MESSAGE "run scripts/setup.sh, or pass -DTorch_DIR=<libtorch>/share/cmake/Torch")

if(LibTorch_FOUND AND NOT TARGET LibTorch::LibTorch)
  add_library(LibTorch::LibTorch INTERFACE IMPORTED)
  target_include_directories(LibTorch::LibTorch SYSTEM INTERFACE ${LibTorch_INCLUDE_DIR} ${LibTorch_API_INCLUDE_DIR})
  target_link_libraries(LibTorch::LibTorch INTERFACE ${LibTorch_torch_cpu_LIBRARY} ${LibTorch_c10_LIBRARY})
  # The wheel's libraries find their own dependencies through their run paths; only ours must name the folder.
  target_link_options(LibTorch::LibTorch INTERFACE "LINKER:-rpath,${LibTorch_ROOT}/lib" "LINKER:--allow-shlib-undefined")
  if(VRWKV_WITH_CUDA)
    if(NOT LibTorch_torch_cuda_LIBRARY)
      message(FATAL_ERROR "nvcc was found, but ${LibTorch_ROOT} is a LibTorch without CUDA: configure with -DVRWKV_CUDA=OFF")
    endif()
    # libtorch_cuda registers its kernels when it is loaded; the linker would drop it, as no symbol of it is named.
    target_link_libraries(LibTorch::LibTorch INTERFACE
      "-Wl,--no-as-needed,${LibTorch_torch_cuda_LIBRARY},--as-needed" ${LibTorch_c10_cuda_LIBRARY})
    target_link_libraries(LibTorch::LibTorch INTERFACE CUDA::cudart)
    target_include_directories(LibTorch::LibTorch SYSTEM INTERFACE ${CUDAToolkit_INCLUDE_DIRS})
    target_compile_definitions(LibTorch::LibTorch INTERFACE VRWKV_WITH_CUDA)
  endif()
endif()
mark_as_advanced(LibTorch_INCLUDE_DIR LibTorch_API_INCLUDE_DIR)

# nvJPEG as an imported target, NvJpeg::NvJpeg. Optional: without it the programs decode JPEGs on the CPU alone.
#
# Looked for in the environment of LibTorch, where scripts/setup.sh installs the wheel nvidia-nvjpeg, and in the CUDA
# toolkit. The major version must be the toolkit's.
cmake_path(GET LibTorch_ROOT PARENT_PATH packages)
set(hints ${packages}/nvidia/cu${CUDAToolkit_VERSION_MAJOR} ${packages}/nvidia/nvjpeg ${CUDAToolkit_LIBRARY_ROOT})
find_path(NvJpeg_INCLUDE_DIR nvjpeg.h HINTS ${hints} ${CUDAToolkit_INCLUDE_DIRS} PATH_SUFFIXES include)
find_library(NvJpeg_LIBRARY NAMES libnvjpeg.so.${CUDAToolkit_VERSION_MAJOR} nvjpeg
             HINTS ${hints} ${CUDAToolkit_LIBRARY_DIR} PATH_SUFFIXES lib lib64)
if(NvJpeg_INCLUDE_DIR)
  file(STRINGS ${NvJpeg_INCLUDE_DIR}/nvjpeg.h version REGEX "#define NVJPEG_VER_(MAJOR|MINOR|PATCH) ")
  string(REGEX REPLACE "[^0-9;]" "" version "${version}")
  list(JOIN version . NvJpeg_VERSION)
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(NvJpeg REQUIRED_VARS NvJpeg_LIBRARY NvJpeg_INCLUDE_DIR VERSION_VAR NvJpeg_VERSION)
if(NvJpeg_FOUND AND NOT TARGET NvJpeg::NvJpeg)
  cmake_path(GET NvJpeg_LIBRARY PARENT_PATH folder)
  add_library(NvJpeg::NvJpeg INTERFACE IMPORTED)
  target_include_directories(NvJpeg::NvJpeg SYSTEM INTERFACE ${NvJpeg_INCLUDE_DIR})
  target_link_libraries(NvJpeg::NvJpeg INTERFACE ${NvJpeg_LIBRARY})
  target_link_options(NvJpeg::NvJpeg INTERFACE "LINKER:-rpath,${folder}")
endif()
mark_as_advanced(NvJpeg_INCLUDE_DIR NvJpeg_LIBRARY)

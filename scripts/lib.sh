# shellcheck shell=bash disable=SC2034  # names are used by those who source this
# Shared by the scripts of this folder; sourced, not run.

readonly TORCH_VERSION=2.11.0
readonly NVJPEG_VERSION=13.0.4.44
readonly CLANG_FORMAT_VERSION=18.1.8
readonly CMAKE_NEEDED=3.25

repo_root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
cache="${VRWKV_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/vrwkv}"
torch_venv="$cache/venv-torch-$TORCH_VERSION"
tools_venv="$cache/tools"

say() { printf '%s\n' "== $*" >&2; }

die() {
  printf '%s\n' "error: $*" >&2
  exit 1
}

# at_least VERSION NEEDED: true when VERSION is NEEDED or newer.
at_least() { [[ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n1)" == "$2" ]]; }

# libtorch_given: true when Torch_DIR or CMAKE_PREFIX_PATH names a LibTorch, so that the wheel is not needed.
libtorch_given() {
  [[ -n "${Torch_DIR:-}" ]] && return 0
  local path
  local -a paths
  IFS=: read -ra paths <<<"${CMAKE_PREFIX_PATH:-}"
  for path in "${paths[@]}"; do
    [[ -e "$path/include/ATen/ATen.h" || -e "$path/../../include/ATen/ATen.h" ]] && return 0
  done
  return 1
}

# cmake_version COMMAND: its version, or nothing.
cmake_version() { "$1" --version 2>/dev/null | sed -n 's/^cmake version \([0-9.]*\).*/\1/p'; }

# use_build_tools: puts a new enough cmake first in PATH and chooses the compiler.
use_build_tools() {
  if ! at_least "$(cmake_version cmake || true)" "$CMAKE_NEEDED"; then
    PATH="$tools_venv/bin:$PATH"
  fi
  if [[ -z "${CXX:-}" ]] && ! at_least "$(g++ -dumpversion)" 12; then
    export CXX=g++-12 CUDAHOSTCXX=g++-12  # Ubuntu 22.04, whose default is g++ 11
  fi
}

# build_jobs: one job per core, but no more than fit into memory at 2.5 GB each.
build_jobs() {
  local cores memory_kb jobs
  cores="$(nproc)"
  memory_kb="$(sed -n 's/^MemAvailable: *\([0-9]*\) kB/\1/p' /proc/meminfo)"
  jobs=$((${memory_kb:-2500000} / 2500000))
  ((jobs > cores)) && jobs=$cores
  ((jobs < 1)) && jobs=1
  echo "$jobs"
}

# build PRESET [TARGET…]: configures where needed and builds build/PRESET.
build() {
  local preset=$1 folder="$repo_root/build/$1" known
  shift
  use_build_tools
  local -a configure=(cmake --preset "$preset")
  [[ -n "${Torch_DIR:-}" ]] && configure+=("-DTorch_DIR=$Torch_DIR")
  [[ -n "${CMAKE_PREFIX_PATH:-}" ]] && configure+=("-DCMAKE_PREFIX_PATH=${CMAKE_PREFIX_PATH//:/;}")
  # CMake keeps the paths that it once found, even when the cache folder has moved since.
  known="$(sed -n 's/^LibTorch_INCLUDE_DIR:PATH=//p' "$folder/CMakeCache.txt" 2>/dev/null || true)"
  [[ -n "$known" && ! -d "$known" ]] && configure+=(--fresh)
  local -a targets=()
  (($# > 0)) && targets=(--target "$@")
  # stdout is for results: what the build prints goes to stderr.
  (cd "$repo_root" && "${configure[@]}" --log-level=NOTICE &&
    cmake --build --preset "$preset" --parallel "$(build_jobs)" "${targets[@]}") >&2
}

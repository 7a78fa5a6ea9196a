#!/usr/bin/env bash
# Installs what the build needs, if it is missing: Debian or Ubuntu packages, and LibTorch (the wheel of PyTorch), with
# nvcc also nvJPEG, in a virtual environment that all checkouts share. Quick when nothing is missing.
#
#   scripts/setup.sh [--tools]     --tools: also the pinned clang-format, and the programs that tests compare with
#
# VRWKV_CACHE           folder of the virtual environments (default: ${XDG_CACHE_HOME:-~/.cache}/vrwkv)
# Torch_DIR, CMAKE_PREFIX_PATH    a LibTorch of your own; the wheel is then not installed
# VRWKV_SKIP_PACKAGES=1           do not look at the system's packages
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

packages=(
  g++ cmake ninja-build ccache git ca-certificates python3 python3-venv patchelf
  libyaml-cpp-dev libspdlog-dev libcli11-dev nlohmann-json3-dev
  libjpeg-dev libpng-dev libarchive-dev libgloo-dev libxxhash-dev libprotozero-dev libgtest-dev gnuplot-nox
)

as_root() {
  if ((EUID == 0)); then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    die "packages are missing and there is neither root nor sudo; ask an administrator for: apt-get install ${missing[*]}"
  fi
}

# retry COMMAND…: up to three times, as mirrors fail now and then.
retry() {
  local attempt
  for attempt in 1 2 3; do
    "$@" && return 0
    say "failed (attempt $attempt of 3): $*"
    ((attempt == 3)) || sleep $((attempt * 3))
  done
  return 1
}

# packages_missing PACKAGE…: those that are not installed.
packages_missing() {
  comm -23 <(printf '%s\n' "$@" | sort) \
    <(dpkg-query -W -f='${Status} ${Package}\n' "$@" 2>/dev/null | sed -n 's/^install ok installed //p' | sort -u)
}

install_packages() {
  mapfile -t missing < <(packages_missing "$@")
  ((${#missing[@]} == 0)) && return 0
  say "installing ${missing[*]}"
  local -a apt=(env DEBIAN_FRONTEND=noninteractive apt-get -y -q -o Acquire::Retries=3 -o DPkg::Lock::Timeout=300)
  retry as_root "${apt[@]}" update >&2 || die "apt-get update failed; is there a network?"
  retry as_root "${apt[@]}" install --no-install-recommends "${missing[@]}" >&2 ||
    die "apt-get could not install: ${missing[*]}"
}

system_packages() {
  [[ "${VRWKV_SKIP_PACKAGES:-0}" == 1 ]] && return 0
  command -v dpkg-query >/dev/null ||
    die "this is neither Debian nor Ubuntu: install the equivalents of '${packages[*]}' and set VRWKV_SKIP_PACKAGES=1"
  install_packages "${packages[@]}"
  at_least "$(g++ -dumpversion)" 12 || install_packages g++-12
}

# suitable_python: an interpreter that the wheel exists for.
suitable_python() {
  local python
  for python in python3 /usr/bin/python3; do
    if "$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
      echo "$python"
      return 0
    fi
  done
  die "no python3 of version 3.10 or newer with its venv module was found"
}

# has_package VENV NAME VERSION: true when pip finished installing it there.
has_package() {
  "$1/bin/python" - "$2" "$3" 2>/dev/null <<'PYTHON'
import importlib.metadata, sys
found = importlib.metadata.distribution(sys.argv[1])
sys.exit(not (found.version == sys.argv[2] and found.read_text("RECORD")))
PYTHON
}

torch_ready() { [[ -f "$torch_venv/.complete" && -x "$torch_venv/bin/python" ]]; }

# Installs at the final place, as an environment cannot be moved; only one with the file .complete counts as installed.
install_torch() {
  if has_package "$torch_venv" torch "$TORCH_VERSION" && "$torch_venv/bin/python" -c 'import numpy, torch' 2>/dev/null
  then
    touch "$torch_venv/.complete"
    return 0
  fi
  local free_kb python
  free_kb="$(df -Pk "$cache" | awk 'NR == 2 {print $4}')"
  ((free_kb > 9000000)) || die "$cache has $((free_kb / 1000000)) GB free; PyTorch needs 9 GB. Set VRWKV_CACHE to a folder with more"
  python="$(suitable_python)"
  say "installing torch $TORCH_VERSION in $torch_venv (about 3 GB to download)"
  rm -rf "$torch_venv"
  trap 'rm -rf "$torch_venv"' EXIT
  "$python" -m venv "$torch_venv" >&2
  retry "$torch_venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-cache-dir \
    "torch==$TORCH_VERSION" numpy >&2 || die "pip could not install torch==$TORCH_VERSION"
  touch "$torch_venv/.complete"
  trap - EXIT
}

nvjpeg_ready() { has_package "$torch_venv" nvidia-nvjpeg "$NVJPEG_VERSION"; }

# Decodes JPEGs on a GPU, which is optional: a build without it decodes on the CPU. One try only, as without a network
# every later call tries again.
install_nvjpeg() {
  say "installing nvidia-nvjpeg $NVJPEG_VERSION in $torch_venv"
  "$torch_venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-cache-dir --retries 1 --no-deps \
    "nvidia-nvjpeg==$NVJPEG_VERSION" >&2 || say "it could not be installed; the build will have no data.decode: gpu"
}

# tool_ready NAME VERSION, install_tool NAME VERSION: a program from PyPI in the tools environment.
tool_ready() { [[ -f "$tools_venv/.$1-$2" && -x "$tools_venv/bin/python" ]]; }

install_tool() {
  if [[ ! -x "$tools_venv/bin/python" ]]; then
    local python
    python="$(suitable_python)"
    rm -rf "$tools_venv"
    "$python" -m venv "$tools_venv" >&2
  fi
  if ! has_package "$tools_venv" "$1" "$2"; then
    say "installing $1 $2 in $tools_venv"
    retry "$tools_venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-cache-dir "$1==$2" >&2 ||
      die "pip could not install $1==$2"
  fi
  touch "$tools_venv/.$1-$2"
}

# once CHECK INSTALL ARGUMENT…: INSTALL unless CHECK says that it is there; two set-ups at once take turns.
once() {
  local check=$1 install=$2
  shift 2
  "$check" "$@" && return 0
  mkdir -p "$cache"
  (
    flock --nonblock 9 || { say "another set-up is at work in $cache, waiting for it" && flock 9; }
    "$check" "$@" || "$install" "$@"
  ) 9>"$cache/setup.lock"
}

with_tools=0
for argument in "$@"; do
  case "$argument" in
    --tools) with_tools=1 ;;
    *) die "unknown argument '$argument'; usage: scripts/setup.sh [--tools]" ;;
  esac
done

system_packages
if ! libtorch_given; then
  once torch_ready install_torch
  if command -v nvcc >/dev/null; then once nvjpeg_ready install_nvjpeg; fi
fi
at_least "$(cmake_version cmake || true)" "$CMAKE_NEEDED" || once tool_ready install_tool cmake 3.31.6
if ((with_tools)); then
  once tool_ready install_tool clang-format "$CLANG_FORMAT_VERSION"
  for tool in onnxruntime=1.32.0 onnx=1.23.2 safetensors=0.8.0; do
    once tool_ready install_tool "${tool%=*}" "${tool#*=}"
  done
fi

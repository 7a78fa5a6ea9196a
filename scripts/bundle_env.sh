# shellcheck shell=bash
# Sourced by the programs in a bundle's bin/, or by hand before torchrun: puts the machine's LibTorch into LD_LIBRARY_PATH.

# vrwkv_torch_version ROOT: version of the LibTorch in ROOT, such as 2.11.0.
vrwkv_torch_version() {
  sed -n 's/^#define TORCH_VERSION_\(MAJOR\|MINOR\|PATCH\) \([0-9]*\)$/\2/p' "$1/include/torch/headeronly/version.h" |
    paste -s -d . -
}

vrwkv_find_torch() {
  local here root version needed library
  here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
  needed="$(cat "$here/torch_version")"
  if [[ -n "${Torch_DIR:-}" ]]; then
    root="$(cd "$Torch_DIR/../../.." 2>/dev/null && pwd)"
  else
    root="$(python3 -c 'import importlib.util as u; print(u.find_spec("torch").submodule_search_locations[0])' 2>/dev/null)"
  fi
  if [[ ! -e "$root/lib/libtorch_cpu.so" ]]; then
    echo "error: no LibTorch found; activate an environment with torch==$needed, or set Torch_DIR" >&2
    return 1
  fi
  version="$(vrwkv_torch_version "$root")"
  if [[ "$version" != "$needed" ]]; then
    echo "error: these programs were built with LibTorch $needed, but $root is version ${version:-unknown}" >&2
    return 1
  fi
  LD_LIBRARY_PATH="$root/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
  for library in "$root"/../nvidia/*/lib; do
    [[ -d "$library" ]] && LD_LIBRARY_PATH+=":$library"
  done
  export LD_LIBRARY_PATH
}

[[ "${VRWKV_DEFINE_ONLY:-0}" == 1 ]] || vrwkv_find_torch

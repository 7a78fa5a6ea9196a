#!/usr/bin/env bash
# Installs what is missing, builds, and runs all tests.
#
#   scripts/test.sh [--asan|--tsan] [argument of ctest …]     for example: scripts/test.sh -R ops
#
# --asan: the build with the address and undefined-behaviour sanitizers (slower, CPU only).
# --tsan: the data pipeline's tests under the thread sanitizer (slower, CPU only).
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

preset=release
if [[ "${1:-}" == --asan || "${1:-}" == --tsan ]]; then
  preset="${1#--}"
  shift
fi

"$repo_root/scripts/setup.sh"
build "$preset"
use_build_tools
cd "$repo_root"
exec ctest --preset "$preset" --no-tests=error "$@"

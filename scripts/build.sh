#!/usr/bin/env bash
# Installs what is missing and builds: scripts/build.sh [PRESET [TARGET…]]; the preset is release unless given.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

"$repo_root/scripts/setup.sh"
build "${1:-release}" "${@:2}"

#!/usr/bin/env bash
# Formats every tracked C++ and CUDA file with the pinned clang-format.
#
#   scripts/format.sh [--check]     --check: changes nothing, prints the differences and exits with 1 if there are any
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

check=0
case "${1:-}" in
  "") ;;
  --check) check=1 ;;
  *) die "unknown argument '$1'; usage: scripts/format.sh [--check]" ;;
esac

"$repo_root/scripts/setup.sh" --tools
clang_format="$tools_venv/bin/clang-format"
cd "$repo_root"
mapfile -t files < <(git ls-files '*.h' '*.cpp' '*.cu' '*.cuh')
((${#files[@]} > 0)) || die "git lists no source file in $repo_root"

if ((!check)); then
  "$clang_format" -i "${files[@]}"
  exit 0
fi
bad=0
for file in "${files[@]}"; do
  "$clang_format" "$file" | diff -u --label "$file" --label "$file (formatted)" "$file" - || bad=1
done
((bad == 0)) || die "files are not formatted; run scripts/format.sh"
say "${#files[@]} files are formatted"

#!/usr/bin/env bash
# Fuzzes what reads files from elsewhere: checkpoints, tars, configurations, pictures. Needs clang with libFuzzer.
#
#   scripts/fuzz.sh [SECONDS [TARGET …]]     for example: scripts/fuzz.sh 600 pth safetensors
#
# Each target (all of them without TARGET) runs for so many SECONDS (600) under the address and undefined-behaviour
# sanitizers, one after the other. They start from the small files of tests/fuzz/corpus, tests/data/fixtures and configs;
# inputs that take new ways through the code are kept in build/fuzz/corpus for the next time. An input that breaks
# something ends the script and is left in build/fuzz/findings.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

seconds="${1:-600}"
[[ "$seconds" =~ ^[1-9][0-9]*$ ]] || die "SECONDS must be a whole number from 1 on, got '$seconds'"
shift || true
targets=("$@")
((${#targets[@]})) || targets=(pickle pth state_dict safetensors tar yaml image)
command -v clang++ >/dev/null || die "clang++ is missing; install the package clang, whose libFuzzer is used"

# seeds TARGET: the folder that it starts from.
seeds() {
  case "$1" in
    pickle | pth | safetensors | tar) echo "$repo_root/tests/fuzz/corpus/$1" ;;
    state_dict) echo "$repo_root/tests/fuzz/corpus/pickle" ;;
    yaml) echo "$repo_root/configs" ;;
    image) echo "$repo_root/tests/data/fixtures" ;;
    *) die "unknown target '$1'; there are pickle, pth, state_dict, safetensors, tar, yaml and image" ;;
  esac
}

for target in "${targets[@]}"; do seeds "$target" >/dev/null; done
build fuzz "${targets[@]/%/_fuzz}"
out="$repo_root/build/fuzz"
mkdir -p "$out/findings"
for target in "${targets[@]}"; do
  mkdir -p "$out/corpus/$target"
  say "$target, $seconds s"
  "$out/bin/${target}_fuzz" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 -print_final_stats=1 -verbosity=0 \
    -artifact_prefix="$out/findings/$target-" "$out/corpus/$target" "$(seeds "$target")"
done

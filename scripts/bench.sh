#!/usr/bin/env bash
# Measures VRWKV (vrwkv-bench) and DeiT (scripts/bench_deit.py) at the same sizes and batches on this machine, and prints
# both and the ratio.
#
#   scripts/bench.sh [--compile off|on|both] [--out DIR] [flag of `vrwkv-bench model` and `train` …]
#
#   scripts/bench.sh --compile both --variant tiny small --sizes 224,1024
#
# --compile: torch.compile for DeiT (off). --out: where the JSON files and bench.svg go (runs/bench). $BENCH_BIN: the
# folder of vrwkv-bench (build/release/bin, built when it is missing). $PYTHON: an interpreter with torch and timm
# (python3); the plot is left out when it has no matplotlib.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

compile=off
out="$repo_root/runs/bench"
ours=() deit=()
while (($# > 0)); do
  case "$1" in
    -h | --help)
      sed -n '2,/^set -euo/p' "${BASH_SOURCE[0]}" | sed -n 's/^# \{0,1\}//p'
      exit 0
      ;;
    --compile | --out)
      (($# >= 2)) || die "$1 needs a value; see scripts/bench.sh --help"
      if [[ $1 == --compile ]]; then compile=$2; else out=$2; fi
      shift 2
      ;;
    --json | --json=*) die "--json is not taken: the files go to the folder of --out" ;;
    *)
      ours+=("$1")
      shift
      ;;
  esac
done
[[ $compile == off || $compile == on || $compile == both ]] || die "--compile must be off, on or both, got '$compile'"

[[ " ${ours[*]} " =~ \ --dtype[=\ ]float64\  ]] && die "--dtype float64 is not taken: DeiT is measured in bfloat16 or float32"

# What both programs must agree on.
for ((i = 0; i < ${#ours[@]}; ++i)); do
  case "${ours[i]}" in
    --device | --dtype | --threads | --min-time) deit+=("${ours[i]}" "${ours[i + 1]:-}") ;;
    --device=* | --dtype=* | --threads=* | --min-time=*) deit+=("${ours[i]}") ;;
  esac
done

python="${PYTHON:-python3}"
"$python" -c 'import timm' 2>/dev/null ||
  die "$python has no timm: $python -m pip install timm torchvision==0.26.0, or set PYTHON to one that has it"
bin="${BENCH_BIN:-$repo_root/build/release/bin}"
if [[ ! -x "$bin/vrwkv-bench" ]]; then
  [[ -z "${BENCH_BIN:-}" ]] || die "$bin/vrwkv-bench does not exist; build it, or unset BENCH_BIN"
  "$repo_root/scripts/setup.sh"
  build release vrwkv-bench
fi
mkdir -p "$out"

for kind in model train; do
  say "VRWKV, $kind"
  "$bin/vrwkv-bench" "$kind" "${ours[@]}" --json "$out/vrwkv_$kind.json"
done
say "DeiT, torch.compile $compile"
"$python" "$repo_root/scripts/bench_deit.py" --like "$out"/vrwkv_{model,train}.json --compile "$compile" \
  "${deit[@]}" --json "$out/deit.json"

plot=()
if "$python" -c 'import matplotlib' 2>/dev/null; then
  plot=(--plot "$out/bench.svg")
else
  say "no plot: $python has no matplotlib (pip install matplotlib)"
fi
say "VRWKV against DeiT"
"$python" "$repo_root/scripts/bench_compare.py" --ours "$out"/vrwkv_{model,train}.json --deit "$out/deit.json" "${plot[@]}"
say "written to $out"

#!/usr/bin/env bash
# From a fresh machine to a trained model: installs what is missing, builds, trains a very small VRWKV on the embedded
# digits (minutes on two CPU cores) and evaluates it. The last line is `top-1 NN.NN  top-5 NN.NN`.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

config=configs/digits_vrwkv_micro.yaml
run=runs/quickstart

"$repo_root/scripts/setup.sh"
build release vrwkv-train vrwkv-eval
cd "$repo_root"
rm -rf "$run"
build/release/bin/vrwkv-train "$config" "run.output_dir=$run"
build/release/bin/vrwkv-eval "$config" --checkpoint "$run/checkpoints/best.safetensors"

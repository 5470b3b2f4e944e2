#!/usr/bin/env bash
# quickstart.sh: the main job from nothing: installs what is missing, builds, generates the kernels of Llama-3.1-8B for A100
# and H100, and runs the operator on a reference case: on the CPU, and on the GPU too where there is one. Can be run again.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
build=build
case=tests/reference/gqa_d128
store=$build/llama-3.1-8b.tamis

fail() {
    printf 'quickstart: failed: %s\n' "$*" >&2
    exit 1
}

quietly() { # LOG COMMAND...: its output is kept, and shown only where it fails
    local log=$build/$1
    shift
    "$@" >"$log" 2>&1 || { tail -n 20 "$log" >&2; fail "$* (all of it in $log)"; }
}

heading() { printf '\n== %s\n' "$*"; }

heading "1. What this machine lacks"
tests/setup.sh build
# shellcheck source=/dev/null
. .deps/environment

heading "2. Build, into $build/"
mkdir -p "$build"
quietly configure.log cmake -S . -B "$build" -DTAMIS_BUILD_TESTS=OFF -DCMAKE_BUILD_TYPE=Release
quietly build.log cmake --build "$build" --parallel "$(nproc)"
"$build/tamis" --version

heading "3. Kernels of specs/llama-3.1-8b.yaml for sm_90a (H100, H200) and sm_80 (A100), into $store"
"$build/tamis" gen llama-3.1-8b -o "$store" --arch sm_90a,sm_80 --defaults-only

devices=cpu
if nvidia-smi -L 2>/dev/null | grep -q '^GPU 0'; then devices="cpu cuda:0"; fi
for device in $devices; do
    heading "4. The operator on $case, on $device, against the float64 reference"
    "$build/tamis" verify "$case" --store "$store" --device "$device"
    "$build/tamis" run --input "$case" --output "$build/result-${device%:*}" --store "$store" --device "$device"
done
[ "$devices" != cpu ] || printf '\nNo GPU was found here: the operator ran on the CPU only.\n'

heading "What next"
printf '%s\n' "$build/tamis --help, the README, or the tests: tests/run.sh"

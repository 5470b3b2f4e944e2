#!/usr/bin/env bash
# run.sh: tamis beside cuDNN and FlashAttention-2 on this machine's GPU, back to back: peers.py, tamis bench, peers.py
# again. Needs Python with PyTorch for CUDA.
#
#   run.sh STORE|BUILD OUT
#
# STORE: benches its kernels with $TAMIS, else the tamis of $PATH. BUILD: a build folder: its tamis, on kernels generated
# anew from specs/. Writes OUT/peers-before.json, OUT/bench.json, OUT/peers-after.json and, of all three, OUT/table.txt.
set -euo pipefail

[ $# -eq 2 ] || { sed -n '5,8s/^# \{0,1\}//p' "$0" >&2; exit 2; }
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=$2
if [ -d "$1" ]; then
    tamis=$1/tamis
    kernels=(gemma-2-9b gpt-oss-20b llama-3.1-8b phi-3-mini) # head dims 256, 64, 128, 96
else
    tamis=${TAMIS:-tamis}
    kernels=("$1")
fi
command -v "$tamis" >/dev/null || { echo "run.sh: no tool: $tamis" >&2; exit 1; }

# Problems that both sides time; options that both know.
problems=(
    "--head-dims 128 --lengths 8192,32768,131072 --dtypes bf16,fp16"
    "--head-dims 128 --lengths 32768,65536 --kv-heads 32"
    "--head-dims 128 --lengths 32768 --mask full"
    "--head-dims 64 --lengths 32768,131072"
    "--head-dims 96 --lengths 32768"
    "--head-dims 256 --lengths 32768 --q-heads 16"
)
compressed="--head-dims 128 --lengths 65536,131072 --kept 0.5"

each() { # COMMAND...: with the options of each problem; one that fails does not hide the others
    local problem failed=0
    for problem in "${problems[@]}"; do
        # shellcheck disable=SC2086 # options are words
        "$@" $problem || failed=1
    done
    return $failed
}

mkdir -p "$out"
code=0
echo "run.sh: peers, before" >&2
each python3 "$here/peers.py" >"$out/peers-before.json" || code=1
echo "run.sh: tamis bench attention ${kernels[*]}" >&2
{
    each "$tamis" bench attention "${kernels[@]}" --json || code=1
    # shellcheck disable=SC2086
    "$tamis" bench attention "${kernels[@]}" --json $compressed || code=1
} >"$out/bench.json"
echo "run.sh: peers, after" >&2
each python3 "$here/peers.py" >"$out/peers-after.json" || code=1
python3 "$here/peers.py" --compare "$out"/{bench,peers-before,peers-after}.json | tee "$out/table.txt"
exit $code

#!/usr/bin/env bash
# bench.sh BUILD OUT [TOKENS...]: the prefill of Llama-3.1-8B on this machine's GPU: dense, and with the spec's layers sparse at
# ratio 0.5; beside them, where Python has PyTorch for CUDA, what the first token would take with cuDNN's attention.
#
# TOKENS: 32768 and 131072 unless told. TAMIS_STORE: a store to take kernels from, tuned perhaps; without, defaults are
# generated. PREFILL_WEIGHTS: a model's folder; without, random weights. PREFILL_RATIO: in place of 0.5. Writes
# OUT/prefill-TOKENS.json and, of the longest prompt, OUT/drift.csv.
set -euo pipefail

[ $# -ge 2 ] || { sed -n '2,7s/^# \{0,1\}//p' "$0" >&2; exit 2; }
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
build=$(cd "$1" && pwd)
out=$2
shift 2
[ $# -gt 0 ] || set -- 32768 131072
prefill=$build/examples/prefill/prefill
[ -x "$prefill" ] || { echo "bench.sh: no program: $prefill" >&2; exit 1; }
mkdir -p "$out"
if [ -z "${TAMIS_LIBCUBLAS:-}" ]; then
    TAMIS_LIBCUBLAS=$("$here/cublas.sh" "$prefill")
    export TAMIS_LIBCUBLAS
fi

store=${TAMIS_STORE:-$out/llama.tamis}
if [ ! -e "$store" ]; then
    capability=$(nvidia-smi --id=0 --query-gpu=compute_cap --format=csv,noheader | tr -d .)
    arch=sm_$capability
    [ "$capability" != 90 ] || arch=sm_90a
    "$build/tamis" gen llama-3.1-8b -o "$store" --arch "$arch" --defaults-only -q
fi

# Milliseconds of one dense causal layer by cuDNN, in the better of two layouts; nothing where it cannot be timed.
peer_ms() { # TOKENS
    python3 "$here/../bench/peers.py" --only dense --head-dims 128 --lengths "$1" 2>/dev/null | python3 -c '
import json, sys
rows = [json.loads(line) for line in sys.stdin]
times = [row["ms"] for row in rows if row.get("what") == "dense" and row.get("backend") == "cudnn" and row.get("causal")]
print(min(times) if times else "")' 2>/dev/null || true
}

for tokens; do
    options=(--store "$store" --spec llama-3.1-8b --tokens "$tokens" --ratio "${PREFILL_RATIO:-0.5}")
    [ -z "${PREFILL_WEIGHTS:-}" ] || options+=(--weights "$PREFILL_WEIGHTS")
    peer=$(peer_ms "$tokens")
    [ -z "$peer" ] || options+=(--peer-ms "$peer")
    echo "bench.sh: $tokens tokens${peer:+, cuDNN $peer ms a layer}" >&2
    "$prefill" "${options[@]}" --drift "$out/drift.csv" --repeat 2 --json >"$out/prefill-$tokens.json"
    python3 - "$out/prefill-$tokens.json" <<'END'
import json, sys
run = json.load(open(sys.argv[1]))
dense, sparse, peer = run["dense"], run["sparse"], run.get("peer")
print(f"{run['tokens']} tokens, {len(run['sparse_layers'])} of {run['layers']} layers sparse, {run['device']}")
for name, part in (("dense", dense), ("sparse", sparse)):
    stages = ", ".join(f"{stage} {sum(part[stage]):.1f}" for stage in ("projections", "attention", "output", "mlp"))
    print(f"  {name:6} {part['milliseconds']:9.1f} ms to the first token: {stages}")
if peer:
    print(f"  cuDNN  {peer['milliseconds']:9.1f} ms, with {peer['attention_ms']:.2f} ms a layer in place of ours")
print(f"  attention {sum(dense['attention']) / sum(sparse['attention']):.2f}x, first token "
      f"{dense['milliseconds'] / sparse['milliseconds']:.2f}x" +
      (f", {peer['milliseconds'] / sparse['milliseconds']:.2f}x of dense cuDNN's" if peer else ""))
END
done

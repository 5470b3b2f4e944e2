#!/usr/bin/env bash
# bench.sh BUILD MODEL OUT [RUN.PY'S OPTION...]: every curve of README.md again, of MODEL, a folder that train.py has made, with
# the library and tool of BUILD: kernels, answers and times under all the settings below, the page OUT/results.html, and what
# `tamis calibrate` chooses. A call that was stopped goes on where it was.
#
# TAMIS_PYTHON: a python with torch and transformers; python3 unless set. LENGTHS, SAMPLES: of the prompts; JOBS: processes;
# 4096,16384, 12 and 14 unless set.
set -euo pipefail

[ $# -ge 3 ] || { sed -n '2,7s/^# \{0,1\}//p' "$0" >&2; exit 2; }
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
build=$(cd "$1" && pwd)
model=$2
out=$3
shift 3
python=${TAMIS_PYTHON:-python3}
export TAMIS_LIBRARY=$build/libtamis.so TAMIS_DATA_DIR=${TAMIS_DATA_DIR:-$(cd "$here/../.." && pwd)} HF_HUB_OFFLINE=1
mkdir -p "$out"

settings=(dense)
more() { # KIND:LAYERS[,OPTION...] SHARE...: a setting for each share, ratios unless the kind says coverage
    local kind=${1%%:*} rest=${1#*:} what=ratio share
    shift
    if [ "$kind" = coverage ]; then kind=sparse what=coverage; fi
    for share in "$@"; do settings+=("$kind:$what=$share,layers=$rest"); done
}
# How much may go, in the layers that drift least; and ways to choose as many tokens. A floor of 64 tokens, so that the small
# shares are what they say; the spec's floor of 1024 in the settings that a user would take.
more coverage:delta:0.5 .005 .01 .02 .05
more sparse:delta:0.5 .75 .5 .25
for layers in delta:0.5 1-6; do
    for kind in sparse evict random recent; do more "$kind:$layers,min_tokens=64" .5 .25 .1 .05; done
done
# Which layers: by drift, all, and as many at random.
for layers in delta:0.3 delta:0.7 all random:3:1 random:4:{0,1,2,3} random:5:4; do more "sparse:$layers" .25; done
# Zero rows against maps that were fitted, where they hurt too.
more mapped:delta:0.5 .5 .25
for layers in delta:0.5 1-6 all; do more "mapped:$layers,min_tokens=64" .5 .1; done
more sparse:all,min_tokens=64 .5 .1

if [ ! -e "$out/small.tamis" ]; then
    arch=(--arch sm_80 --no-compile) # the CPU needs none
    if capability=$(nvidia-smi --id=0 --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | tr -d .); then
        arch=(--arch "sm_$capability$([ "$capability" != 90 ] || echo a)")
    fi
    "$build/tamis" gen "$here/small.yaml" -o "$out/small.tamis" "${arch[@]}" --defaults-only -q
fi
"$python" "$here/run.py" --model "$model" --store "$out/small.tamis" --out "$out" --lengths "${LENGTHS:-4096,16384}" \
    --samples "${SAMPLES:-12}" --jobs "${JOBS:-14}" --batch "${SAMPLES:-12}" "$@" "${settings[@]}"
"$python" "$here/plot.py" "$out" -o "$out/results.html"
"$build/tamis" calibrate "$out/results.csv" --loss 0.01 --spec "$here/small.yaml" -o "$out/calibrated.yaml"

#!/usr/bin/env bash
# run.sh BUILD_DIR [OUT_DIR]: everything that needs a GPU, with binaries that were built before (TAMIS_STATIC_DEPS makes them
# run on a machine that lacks the libraries). Needs a driver, NVRTC, and this tree's templates/, runtime/ and tests/; no git.
#
# Kernels are generated here for the GPU at hand, into stores: "default" from specs/, what users get, and block patterns for
# every head dim; "portable" from specs that know the sm_80 tiles only, so that those kernels are run on newer GPUs too. Then on
# each: the reference cases, check_gpu in full, and check_gpu's small cases under compute-sanitizer where that tool works. Then
# the prefill of whole models, where cuBLAS is found: small ones on both stores, one of a model's true sizes. All these run side
# by side, on one GPU, and each one's lines come once it is done; so does a host of what tamis export --c writes, where there
# is a C compiler. Last, by itself, "tuned" from nothing.
#
# Writes OUT_DIR/record.json (tests/gpu/record.json unless told): device, driver, date, results, and the hash of what was
# tested. Ends with "N passed, N failed"; what could not be run is recorded as not run, and counts as neither.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
build=$(cd "${1:?usage: tests/gpu/run.sh BUILD_DIR [OUT_DIR]}" && pwd)
out=${2:-$here}
tamis=$build/tamis
check_gpu=$build/tests/gpu/check_gpu
work=$(mktemp -d "${TMPDIR:-/tmp}/tamis-gpu-XXXXXX")
trap 'rm -rf "$work"' EXIT
export TAMIS_DATA_DIR=$root TAMIS_CACHE_DIR=$work/cache
scratch=$work # of the job that runs: its results, a pipe, a command's output
: >"$work/results"

fail() {
    echo "gpu: failed: $*" >&2
    exit 1
}

# ---- results, one JSON object each

quote() { printf '%s' "$1" | tr -d '\000-\037' | sed 's/[\\"]/\\&/g; s/.*/"&"/'; }

since() { awk -v start="$1" -v now="$EPOCHREALTIME" 'BEGIN { printf "%.2f", now - start }'; }

record() { # NAME true|false SECONDS
    local what=ok
    [ "$2" = true ] || what=FAILED
    printf '{"name": %s, "passed": %s, "seconds": %s}\n' "$(quote "$1")" "$2" "$3" >>"$scratch/results"
    printf '%-7s %7s s  %s\n' "$what" "$3" "$1"
}

record_not_run() { # NAME REASON
    printf '{"name": %s, "passed": null, "not_run": %s}\n' "$(quote "$1")" "$(quote "$2")" >>"$scratch/results"
    printf 'NOT RUN            %s: %s\n' "$1" "$2"
}

# One command as one result; its output is shown where it fails.
check() { # NAME COMMAND...
    local name=$1 start=$EPOCHREALTIME ok=true
    shift
    "$@" >"$scratch/output" 2>&1 || ok=false
    record "$name" $ok "$(since "$start")"
    [ $ok = true ] || tail -n 40 "$scratch/output" | sed 's/^/        | /'
    [ $ok = true ]
}

# A program's own lines as results. A line that is neither "ok" nor "FAILED" is detail of the next.
check_lines() { # STORE PROGRAM ARGUMENT...
    local store=$1 program start=$EPOCHREALTIME line code=0 lines=0 bad=0 took='^(.*) \([0-9.]+ s\)$'
    shift
    program=$(basename "$1")
    "$@" >"$scratch/pipe" 2>&1 &
    local pid=$!
    while IFS= read -r line; do
        [[ ! $line =~ $took ]] || line=${BASH_REMATCH[1]} # it is measured here
        case $line in
            'ok     '*) record "$store: ${line#ok     }" true "$(since "$start")" ;;
            'FAILED '*) bad=1 && record "$store: ${line#FAILED }" false "$(since "$start")" ;;
            *) echo "        | $line" && continue ;;
        esac
        lines=$((lines + 1)) start=$EPOCHREALTIME
    done <"$scratch/pipe"
    wait $pid || code=$?
    [ $lines -gt 0 ] || record "$store: $program (no line of it, exit code $code)" false "$(since "$start")"
    # An exit that no line explains must not pass.
    [ $code -eq $bad ] || record "$store: $program ends (exit code $code)" false 0
}

check_sanitized() { # TOOL STORE
    local tool=$1 store=$2 name="$2: check_gpu quick under $1" start=$EPOCHREALTIME ok=true
    if ! command -v "$sanitizer" >/dev/null 2>&1; then
        record_not_run "$name" "no compute-sanitizer here"
        return
    fi
    timeout "${TAMIS_SANITIZER_SECONDS:-240}" "$sanitizer" --tool "$tool" --error-exitcode 99 \
        "$check_gpu" "$work/$store.tamis" quick >"$scratch/output" 2>&1 || ok=false
    if grep -qiE 'device not supported|unsupported device|failed to initialize the (sanitizer|debugger)' "$scratch/output"; then
        record_not_run "$name" "$(grep -iE 'not supported|unsupported|failed to initialize' "$scratch/output" | head -n 1)"
        return
    fi
    # A tool that did not attach would find nothing: it must have summed up.
    grep -qE 'ERROR SUMMARY|RACECHECK SUMMARY' "$scratch/output" || ok=false
    record "$name" $ok "$(since "$start")"
    [ $ok = true ] || tail -n 40 "$scratch/output" | sed 's/^/        | /'
}

# A function beside whatever else runs, with a scratch folder of its own.
declare -A jobs=()
job() { # NAME FUNCTION ARGUMENT...
    local name=$1
    shift
    mkdir "$work/$name.job"
    mkfifo "$work/$name.job/pipe"
    scratch=$work/$name.job "$@" >"$work/$name.job/log" 2>&1 &
    jobs[$name]=$!
}

finish() { # JOB...: waits, and tells
    local name ok
    for name; do
        ok=true
        wait "${jobs[$name]}" || ok=false
        cat "$work/$name.job/log"
        [ ! -e "$work/$name.job/results" ] || cat "$work/$name.job/results" >>"$work/results"
        [ $ok = true ] || record "$name: all of it ran" false 0
    done
}

# ---- the machine

if ! [ -x "$tamis" ] || ! [ -x "$check_gpu" ]; then fail "$build has no tamis and tests/gpu/check_gpu: build first"; fi
command -v nvidia-smi >/dev/null || fail "no nvidia-smi here: this needs a machine with an NVIDIA GPU"
query() { nvidia-smi --id=0 --query-gpu="$1" --format=csv,noheader; }
device=$(query name) driver=$(query driver_version) capability=$(query compute_cap | tr -d .)
case $capability in
    90) arch=sm_90a ;;
    *) arch=sm_$capability ;;
esac
sanitizer=${TAMIS_SANITIZER:-$(command -v compute-sanitizer || echo /usr/local/cuda/bin/compute-sanitizer)}
hash=$("$here/tree_hash.sh" "$root")
echo "gpu: $device, driver $driver, $arch"
"$tamis" doctor || echo "gpu: doctor found something amiss, as above"

# ---- the tests

generate() { # STORE SPEC...
    local store=$1
    shift
    check "$store: generate for $arch" "$tamis" gen "$@" -o "$work/$store.tamis" --arch "$arch" --defaults-only --strict
}

only_portable() { ! "$tamis" cache ls "$work/portable.tamis" | grep wgmma; }

generate default "$root"/specs/*.yaml "$here"/specs/{pattern,output_map}_*.yaml || true
generate portable "$here"/specs/portable_*.yaml || true
check "portable: no kernel of newer families" only_portable || true

check_store() { # STORE
    local case
    for case in "$root"/tests/reference/*/; do
        check "$1: reference $(basename "$case")" "$tamis" verify "$case" --store "$work/$1.tamis" --device cuda:0 || true
    done
    check "$1: steps and one call give the same bits" "$tamis" run --store "$work/$1.tamis" \
        --input "$root/tests/reference/gqa_d128" --output "$scratch/out" --device cuda:0 || true
    check_lines "$1" "$check_gpu" "$work/$1.tamis" full
}

# ---- a whole model: small ones against transformers' logits, the reference and the CPU; the true program once

prefill=$build/examples/prefill
runs_model() { # of Llama-3.1-8B's sizes, random weights: every layer's stages have a time, and drifts lead to layers
    "$prefill/prefill" --store "$work/default.tamis" --spec llama-3.1-8b --tokens 8192 --ratio 0.5 \
        --drift "$scratch/drift.csv" --json >"$scratch/prefill.json" && cat "$scratch/prefill.json" &&
        "$tamis" layers "$scratch/drift.csv"
}
check_models() {
    local cublas store
    if ! [ -x "$prefill/check_prefill" ]; then
        record_not_run "prefill" "$build has no examples"
        return
    elif ! cublas=$("$root/examples/prefill/cublas.sh" "$prefill/prefill" 2>"$scratch/output"); then
        record_not_run "prefill" "$(tail -n 1 "$scratch/output")"
        return
    fi
    [ -z "$cublas" ] || export TAMIS_LIBCUBLAS=$cublas
    for store in default portable; do
        check_lines "$store" "$prefill/check_prefill" "$root/examples/prefill/golden" 0 "$work/$store.tamis"
    done
    check "prefill: Llama-3.1-8B's sizes, 8192 tokens" runs_model || true
}

# ---- block patterns by the launcher of exported sources, which give the library's bits

builds_host() {
    "$tamis" gen "$root/tests/emulate/specs/small.yaml" -o "$scratch/small.tamis" --arch "$arch" --defaults-only &&
        "$tamis" export --c "$scratch/small.tamis" -o "$scratch/c" &&
        cc -std=c11 -O1 -I"$scratch/c" -I"$root/runtime" -o "$scratch/host" "$root"/tests/emulate/launch_*.c \
            "$scratch/c"/*.c "$build/libtamis.so" -Wl,-rpath,"$build" -ldl -lm
}
check_exported() {
    if ! command -v cc >/dev/null 2>&1; then
        record_not_run "exported" "no C compiler here"
        return
    fi
    check "exported: a host is built" builds_host || return 0
    check_lines exported "$scratch/host" "$scratch/small.tamis"
}

job exported check_exported
for store in default portable; do
    [ -e "$work/$store.tamis" ] || continue
    job "$store" check_store "$store"
    for tool in memcheck racecheck synccheck; do job "$store.$tool" check_sanitized $tool "$store"; done
done
job models check_models
for store in default portable; do
    [ -e "$work/$store.tamis" ] || continue
    finish "$store" "$store.memcheck" "$store.racecheck" "$store.synccheck"
done
finish models exported

# Tuning, of one short length: every candidate of a model is right; what was timed is known, and plans go by it.
tune() { "$tamis" tune "$work/tuned.tamis" --spec llama-3.1-8b --lengths 4096 --ratios 0.5 --rigor quick --json; }
tunes_rightly() { tune >"$work/tune.json" && grep -q '"type":"tune",.*"bad":0,' "$work/tune.json"; }
knows() { tune >"$work/tune.json" && ! grep -q '"known_before":false' "$work/tune.json"; }
is_chosen() {
    "$tamis" plan "$work/tuned.tamis" --device cuda:0 --seq-len 4096 --ratio 0.5 --explain >"$work/plan"
    cat "$work/plan"
    local families=5 # decompress among them, where attention leaves it something to do
    if grep -q ' attend_wgmma_' "$work/plan"; then families=4; fi
    [ "$(grep -c 'timed for this shape' "$work/plan")" -eq $families ]
}
measures_host() {
    "$tamis" bench host "$work/tuned.tamis" --seq-len 4096 --ratio 0.5 --json >"$work/host.json" && cat "$work/host.json"
}
check "tuned: from nothing, with no candidate that is wrong" tunes_rightly || cat "$work/tune.json"
check "tuned: a second run has nothing to time" knows || true
check "tuned: a plan takes what was timed for its shape" is_chosen || true
check "tuned: the host's time can be measured" measures_host || true

# The same of block patterns' kernels: what they share with the model above is known by now.
tune_lists() {
    "$tamis" tune "$work/tuned.tamis" --spec llama-3.1-8b-flexprefill --lengths 4096 --ratios 0.5 --rigor quick --json
}
tunes_lists() {
    tune_lists >"$work/lists.json" && grep -q '"type":"tune",.*"bad":0,' "$work/lists.json" &&
        [ "$(grep -c '"family":"attend_blocks".*"known_before":false' "$work/lists.json")" -eq 3 ] &&
        [ "$(grep -c '"pattern":"flexprefill".*"known_before":false' "$work/lists.json")" -eq 3 ] &&
        ! grep '"family":"attend"' "$work/lists.json" | grep -q '"known_before":false'
}
knows_lists() { tune_lists >"$work/lists.json" && ! grep -q '"known_before":false' "$work/lists.json"; }
are_chosen() {
    "$tamis" plan "$work/tuned.tamis" --spec llama-3.1-8b-flexprefill --device cuda:0 --seq-len 4096 --dense \
        --explain >"$work/plan"
    cat "$work/plan"
    [ "$(grep -cE '^(attend_blocks|pattern|pattern_lines|pattern_heads) .*timed for this shape' "$work/plan")" -eq 4 ]
}
check "tuned: block patterns, with no candidate that is wrong" tunes_lists || cat "$work/lists.json"
check "tuned: a second run has nothing to time of block patterns" knows_lists || true
check "tuned: a plan with a block pattern takes what was timed" are_chosen || true

# ---- the record

count() { grep -c "\"passed\": $1" "$work/results" || true; }
passed=$(count true) failed=$(count false) not_run=$(count null)
mkdir -p "$out"
{
    printf '{\n  "device": %s,\n  "arch": "%s",\n  "driver": %s,\n' "$(quote "$device")" "$arch" "$(quote "$driver")"
    printf '  "date": "%s",\n  "tree": "%s",\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$hash"
    printf '  "passed": %d,\n  "failed": %d,\n  "not_run": %d,\n  "results": [\n' "$passed" "$failed" "$not_run"
    sed '$!s/$/,/; s/^/    /' "$work/results"
    printf '  ]\n}\n'
} >"$work/record.json"
cp "$work/record.json" "$out/record.json"
echo "gpu: record in $out/record.json${not_run:+; $not_run not run}"
echo
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]

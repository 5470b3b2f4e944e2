#!/usr/bin/env bash
# run.sh BUILD_DIR sm_80|sm_90a: the kernels of an architecture on the emulated GPU (emulate.hpp), which needs no GPU but g++:
# what users get by default, tiles that they do not, and kernels that are broken on purpose, which must fail. For sm_90a also
# whether the emulator finds what it says. One line a check; ends with "N passed, N failed".
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
build=$(cd "${1:?usage: tests/emulate/run.sh BUILD_DIR ARCH}" && pwd)
arch=${2:?usage: tests/emulate/run.sh BUILD_DIR ARCH}
tamis=$build/tamis
check_gpu=$build/tests/gpu/check_gpu
emulator=$build/tests/emulate/emulate_cuda.so
work=$(mktemp -d "${TMPDIR:-/tmp}/tamis-emulated-XXXXXX")
trap 'rm -rf "$work"' EXIT
export TAMIS_LIBCUDA=$emulator TAMIS_LIBNVRTC=$emulator TAMIS_DATA_DIR=$root TAMIS_CACHE_DIR=$work/cache
export TAMIS_EMULATE_CACHE=$build/emulated # kernels that were compiled before are not compiled again
case $arch in
    sm_80) export FAKE_CUDA_CC=8.0 ;;
    sm_90a) export FAKE_CUDA_CC=9.0 ;;
    *) echo "run.sh: no such architecture here: $arch" >&2 && exit 2 ;;
esac
export FAKE_CUDA_SMS=2 # so that persistent blocks have several tiles each, more than their rings have places
passed=0 failed=0
# shellcheck source=tests/emulate/mutants.sh
. "$root/tests/emulate/mutants.sh"

record() { # true|false NAME
    if [ "$1" = true ]; then
        passed=$((passed + 1)) && echo "ok     $2"
    else
        failed=$((failed + 1)) && echo "FAILED $2"
    fi
}

# One command as one check; its output is shown where it fails.
check() { # NAME COMMAND...
    local name=$1 ok=true
    shift
    "$@" >"$work/output" 2>&1 || ok=false
    record $ok "$name"
    [ $ok = true ] || tail -n 30 "$work/output" | sed 's/^/        | /'
}

# A program that prints a line a check. One that ends without having printed its sum has failed.
check_all() { # NAME COMMAND...
    local name=$1 sum
    shift
    "$@" 2>&1 | tee "$work/output" | sed "s/^\(ok     \|FAILED \)/&$name: /" | grep -vE '^[0-9]+ passed, ' || true
    sum=$(grep -E '^[0-9]+ passed, [0-9]+ failed$' "$work/output" || echo "0 passed, 1 failed")
    passed=$((passed + ${sum%% *})) sum=${sum#*, }
    failed=$((failed + ${sum%% *}))
}

generate() { "$tamis" gen "${@:2}" -o "$1" --arch "$arch" --defaults-only --strict; } # STORE SPEC...

# A store made by the templates with one fault in them: $work/mutant/mutant.tamis.
mutate() { # SPEC_FILE FILE EXPRESSION
    local data=$work/mutant
    rm -rf "$data"
    mkdir "$data"
    cp -r "$root/templates" "$data/templates"
    ln -s "$root/specs" "$root/runtime" "$data"
    sed -i "$3" "$data/templates/$2"
    if cmp -s "$root/templates/$2" "$data/templates/$2"; then echo "the expression changes nothing" && return 1; fi
    TAMIS_DATA_DIR=$data generate "$data/mutant.tamis" "$1"
}

# The first check that fails is enough, and one must.
fails() { # SPEC FILE EXPRESSION
    mutate "$root/tests/emulate/specs/$1.yaml" "$2" "$3" || return 1
    { "$check_gpu" "$work/mutant/mutant.tamis" few 2>&1 || true; } | grep -m 1 '^FAILED'
}

# A tuner with the true process that runs candidates: of the defaults alone, on a problem of five blocks.
tune() { "$tamis" tune "$1" --lengths 600 --ratios 0.5 --rigor quick --time-limit 300 --json; } # STORE
tunes_rightly() {
    generate "$work/tuned.tamis" "$root/tests/emulate/tuned.yaml" && tune "$work/tuned.tamis" >"$work/tuned" || return 1
    grep -q '"type":"tune",.*"refused":0,"bad":0,' "$work/tuned" || return 1
    [ "$(grep -c '"family":"attend_blocks"' "$work/tuned")" -eq 3 ] &&
        [ "$(grep -c '"pattern":"flexprefill"' "$work/tuned")" -eq 3 ]
}

# One whose default kernels have a fault: it says so, of what WHY tells, and stops.
stops() { # SPEC_FILE FILE EXPRESSION WHY
    local code=0
    mutate "$1" "$2" "$3" || return 1
    tune "$work/mutant/mutant.tamis" >"$work/tuned" 2>&1 || code=$?
    cat "$work/tuned"
    [ $code -eq 6 ] && grep -q "the default kernels: .*$4" "$work/tuned"
}

check "default: generate" \
    generate "$work/default.tamis" "$root"/specs/*.yaml "$root"/tests/gpu/specs/{pattern,output_map}_*.yaml
check "default: steps and one call give the same bits" "$tamis" run --store "$work/default.tamis" --device cuda:0 \
    --input "$root/tests/reference/gqa_d64_batch2" --output "$work/out"
check_all default "$check_gpu" "$work/default.tamis" emulated
check "default: ways to choose tokens" "$tamis" bench ablate "$work/default.tamis" --head-dims 64 --q-heads 4 --kv-heads 2 \
    --lengths 300 --window 32 --min-tokens 16 --layers 2 --ratios 0.5 --rounds 1
check "no kernels with a map: ways to choose tokens" "$tamis" bench ablate "$root/specs/gpt-oss-20b.yaml" --q-heads 4 \
    --kv-heads 2 --lengths 300 --window 32 --min-tokens 16 --layers 2 --ratios 0.5 --rounds 1
# What tamis export --c writes, on the same GPU as libtamis.
ln -s "$emulator" "$work/libcuda.so.1"
check "export --c: generate" generate "$work/exported.tamis" "$root/tests/emulate/specs/small.yaml"
check "export --c: write" "$tamis" export --c "$work/exported.tamis" -o "$work/exported"
check "export --c: build a host" "${CC:-cc}" -std=c11 -O1 -Wall -Wextra -Wpedantic -Werror -I"$work/exported" \
    -I"$root/runtime" -o "$work/host" "$root"/tests/emulate/launch_*.c "$work/exported"/*.c "$build/libtamis.so" \
    -Wl,-rpath,"$build" -ldl -lm
check_all "export --c" env LD_LIBRARY_PATH="$work" "$work/host" "$work/exported.tamis"
for spec in "$root/tests/emulate/specs"/*.yaml; do
    name=$(basename "$spec" .yaml)
    grep -q "^# .*$arch" "$spec" || continue
    check "$name: generate" generate "$work/$name.tamis" "$spec"
    check_all "$name" "$check_gpu" "$work/$name.tamis" few
done
check "tuned: the kernels of a block pattern are right" tunes_rightly
case $arch in # a fault each, as both take the tuner the same way
    sm_80)
        check "tuned: lists of fewer lines are found out" stops "$root/tests/emulate/tuned.yaml" pattern_heads.cu.lua \
            's/fixed_goal(coverage, kUnit) + 1;/fixed_goal(0.9 * coverage, kUnit) + 1;/' 'blocks are listed, not'
        ;;
    sm_90a)
        sed 's/q_heads: 4/q_heads: 2/; s/kv_heads: 2/kv_heads: 1/' "$root/tests/emulate/tuned.yaml" >"$work/fewer.yaml"
        check "tuned: attention on other blocks is found out" stops "$work/fewer.yaml" attend_blocks_wgmma.cu.lua \
            's/list.entries\[step \/ kParts - 1\]/list.entries[step \/ kParts]/' "the output's error is"
        ;;
esac
for mutant in "${mutants[@]}"; do
    IFS='|' read -r name of file expression <<<"$mutant"
    spec=${of#"$arch"}
    case $spec in
        '') check "broken: $name" fails small "$file" "$expression" ;;
        :*) check "broken: $name" fails "${spec#:}" "$file" "$expression" ;;
    esac
done
[ "$arch" != sm_90a ] || FAKE_CUDA_SMS=4 check_all emulator "$build/tests/emulate/check_emulator" "$root/tests/emulate/cases"

echo "$passed passed, $failed failed"
[ $failed -eq 0 ]

#!/usr/bin/env bash
# run.sh [quick]: every test that runs without a GPU. Installs what is missing, builds in build/ of this tree, and ends with
# one line, "N passed, N failed". quick: without sanitizers, fuzzing and valgrind.
#
# One line a step, with its time; logs in build/log/. TAMIS_FUZZ_SECONDS: for each fuzz target, 45 unless set; the smallest has
# a quarter of it.
# shellcheck disable=SC2317 # functions are called by their names, out of a queue
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
quick=${1:-}
if [ -n "$quick" ] && [ "$quick" != quick ]; then
    echo "usage: tests/run.sh [quick]" >&2
    exit 2
fi
fuzz_seconds=${TAMIS_FUZZ_SECONDS:-45}
build=$root/build
log=$build/log
mkdir -p "$log"
rm -f "$log"/*
export LC_ALL=C.UTF-8
export TAMIS_CACHE_DIR=$build/cache # no test may read or write the user's
unset XDG_CACHE_HOME
# shellcheck source=tests/steps.sh
. tests/steps.sh

# ---- what the steps do

# JOBS FOLDER "TARGET..." OPTION...; no target: all of them.
configure_and_build() {
    local jobs=$1 folder=$2 targets
    read -r -a targets <<<"$3"
    shift 3
    cmake -S "$root" -B "$folder" "$@"
    cmake --build "$folder" --parallel "$jobs" ${targets:+--target "${targets[@]}"}
}

# One suite; Check prints "97%: Checks: 120, Failures: 3, Errors: 0".
run_suite() {
    local folder=$1 suite=$2 code=0
    # shellcheck source=/dev/null
    . "$folder/test_environment.sh"
    "$folder/tests/check_tamis" "$suite" 2>&1 | tee "$counts.log" || code=$?
    sed -n 's/^[0-9]*%: Checks: \([0-9]*\), Failures: \([0-9]*\), Errors: \([0-9]*\)$/\1 \2 \3/p' "$counts.log" |
        awk '{ print $1 - $2 - $3, $2 + $3, 0 }' >"$counts"
    rm "$counts.log"
    return "$code"
}

# FOLDER SELECTION...: of what CMake registered beside the suites. "93% tests passed, 1 tests failed out of 14".
run_ctest() {
    local code=0
    ctest --test-dir "$1" --output-on-failure --no-tests=error "${@:2}" 2>&1 | tee "$counts.log" || code=$?
    sed -n 's/^[0-9]*% tests passed, \([0-9]*\) tests failed out of \([0-9]*\)$/\1 \2/p' "$counts.log" |
        awk '{ print $2 - $1, $1, 0 }' >"$counts"
    rm "$counts.log"
    return "$code"
}

# Kernels of an architecture on the emulated GPU; "12 passed, 0 failed".
run_emulated() {
    local code=0
    tests/emulate/run.sh "$build" "$1" 2>&1 | tee "$counts.log" || code=$?
    sed -n 's/^\([0-9]*\) passed, \([0-9]*\) failed$/\1 \2 0/p' "$counts.log" | tail -n 1 >"$counts"
    rm "$counts.log"
    return "$code"
}

# The Python examples; pytest's last line is "71 passed, 18 skipped in 30.1s", with what was none left out.
run_pytest() {
    local code=0
    tests/pytorch.sh "$1" 2>&1 | tee "$counts.log" || code=$?
    tail -n 1 "$counts.log" | awk '
        { for (i = 1; i < NF; i++) n[$(i + 1)] += $i }
        END { print n["passed"] + n["passed,"], n["failed"] + n["failed,"] + n["error"] + n["errors"],
                    n["skipped"] + n["skipped,"] }' \
        >"$counts"
    rm "$counts.log"
    return "$code"
}

# All that CMake registered, in steps of half a minute or so; what belongs to no other is one of the scripts.
queue_all_tests() { # "STEP..." FOLDER PREFIX
    local suite
    after "$1" "$3scripts" run_ctest "$2" -E '^(suite|emulated|example)\.|^gpu_'
    after "$1" "$3gpu_checks" run_ctest "$2" -R '^gpu_'
    after "$1" "$3examples" run_ctest "$2" -R '^example\.'
    for suite in $("$build/tests/check_tamis" --list); do after "$1" "$3suite.$suite" run_suite "$2" "$suite"; done
}

check_scripts() {
    find tests examples .ci -name '*.sh' -print0 | xargs -0 shellcheck .ci/run
}

# The release build's own warnings, in whichever step its objects were made; the other builds treat theirs as errors.
check_warnings() {
    ! grep -hn 'warning:' "$build/build.log" "$log/static" "$log/build"
}

# ---- kernels

# A member of the summary that gen prints with --json.
summary() { sed -n 's/.*"type":"gen".*"'"$2"'":\([0-9]*\).*/\1/p' "$1"; }

# The summary must say that everything is there. Without NVRTC gen would leave sources only and be content.
complete() {
    [ "$(summary "$1" left)" = 0 ] && [ "$(summary "$1" failed)" = 0 ] && [ "$(summary "$1" variants)" -gt 0 ]
}

# SUMMARY OPTION...: specs into the one store, for all that they name by default, without a spill.
generate() {
    "$build/tamis" gen "${@:2}" -o "$build/specs.tamis" --defaults-only --strict -j 1 --json >"$1" || { cat "$1" && return 1; }
    complete "$1"
    "$build/tamis" cache verify "$build/specs.tamis"
}

# Names of the variants of an architecture, of a summary's kernels.
variants() { sed -n 's/.*"type":"kernel".*"variant":"\([^"]*\)","arch":"'"$2"'".*/\1/p' "$1" | sort -u; }

# All specs for all architectures. Those that the quickstart has compiled are not compiled again. For sm_89, whose kernels and
# registers are those of sm_86, it is enough that they are the same, and that one spec with kernels of every family compiles.
generate_specs() {
    local specs=(specs/*.yaml)
    [ ${#specs[@]} -ge 7 ]
    cp "$build/llama-3.1-8b.tamis" "$build/specs.tamis"
    generate "$build/specs.json" "${specs[@]}" --arch sm_80,sm_86,sm_90a,sm_100,sm_120
    generate "$build/ada.json" specs/llama-3.1-8b-flexprefill.yaml --arch sm_89
    rm -f "$build/alike.tamis"
    "$build/tamis" gen "${specs[@]}" -o "$build/alike.tamis" --arch sm_86,sm_89 --no-compile --json >"$build/alike.json"
    [ "$(variants "$build/alike.json" sm_86 | wc -l)" -gt 50 ]
    diff <(variants "$build/alike.json" sm_86) <(variants "$build/alike.json" sm_89)
}

# Block patterns at the head dims that no model's spec has them for: on the architecture with kernels of its own, and in bf16,
# whose text differs from that of fp16 in names of types alone, on the oldest one and on one of little shared memory.
generate_patterns() {
    local spec
    generate "$build/patterns.json" tests/gpu/specs/pattern_*.yaml --arch sm_90a
    mkdir -p "$build/patterns"
    for spec in tests/gpu/specs/pattern_*.yaml; do
        sed 's/^dtypes: .*/dtypes: [bf16]/' "$spec" >"$build/patterns/$(basename "$spec")"
    done
    generate "$build/patterns_bf16.json" "$build"/patterns/*.yaml --arch sm_80,sm_120
}

# Kind, name, architecture, key and size of all that a store holds.
store_listing() { "$build/tamis" cache ls "$1" --json | sort; }

# A second gen compiles nothing. A gen into another store makes the same sources under the same keys.
generate_twice() {
    local first=$build/first.json second=$build/second.json
    rm -f "$build"/twice.tamis
    "$build/tamis" gen specs/llama-3.1-8b.yaml -o "$build/specs.tamis" --arch sm_80 --defaults-only --json >"$first"
    complete "$first"
    [ "$(summary "$first" compiled)" = 0 ]
    "$build/tamis" gen specs/llama-3.1-8b.yaml -o "$build/twice.tamis" --arch sm_80 --defaults-only --json >"$second"
    complete "$second"
    [ "$(summary "$second" compiled)" -gt 0 ]
    diff <(grep '"type":"kernel"' "$first") <(grep '"type":"kernel"' "$second")
    store_listing "$build/twice.tamis" >"$build/twice.list"
    [ "$(wc -l <"$build/twice.list")" -gt 5 ]
    store_listing "$build/specs.tamis" >"$build/specs.list"
    # Each line of the small store is one of the large store: same kind, name, architecture, key and size.
    ! grep -vxFf "$build/specs.list" "$build/twice.list"
}

# ---- fuzzing and valgrind

fuzz() { # TARGET SECONDS
    local target=$1 folder=$root/build-fuzz corpus=$root/build-fuzz/corpus/$1
    export TAMIS_SOURCE_DIR=$root
    cd specs # where the tile lists are that specs name
    # Of its own accord it ends with 77 where it has found something, which would say here that there was nothing to run.
    "$folder/tests/$target" -max_total_time="$2" -timeout=20 -rss_limit_mb=4096 -print_final_stats=1 -error_exitcode=1 \
        -artifact_prefix="$folder/$target-" "$corpus"
}

# Seeds that can be made are not kept in the tree: a small store, and every spec there is. What a run finds stays for the next.
make_seeds() {
    local corpus=$root/build-fuzz/corpus folder
    mkdir -p "$corpus"/fuzz_{npy,spec,store}
    for folder in tests/fuzz/seeds/*/; do cp "$folder"/* "$corpus/fuzz_$(basename "$folder")"; done
    rm -f "$corpus/fuzz_store/small.tamis"
    "$build/tests/race_store" fill "$corpus/fuzz_store/small.tamis" 2
    cp specs/*.yaml tests/bad_specs/*.yaml "$corpus/fuzz_spec"
}

memcheck() {
    # shellcheck source=/dev/null
    . "$build/test_environment.sh"
    export CK_FORK=no CK_TIMEOUT_MULTIPLIER=100
    valgrind -q --error-exitcode=99 --leak-check=full --errors-for-leak-kinds=definite,possible "$@"
}

# ---- the record of the GPU tests

loudly() {
    printf '\n%s\n' "######################################################################################"
    printf '###  %s\n' "$@"
    printf '%s\n\n' "######################################################################################"
}

say_record() {
    local record=tests/gpu/record.json tree
    tree=$(tests/gpu/tree_hash.sh)
    if [ ! -f $record ]; then
        loudly "NO GPU RECORD: nothing says that this tree was ever run on a GPU." \
            "On a machine with one: tests/gpu/run.sh build"
    elif ! grep -q "\"tree\": \"$tree\"" $record; then
        loudly "THE GPU RECORD IS OF ANOTHER TREE: templates, runtime or gen have changed since." \
            "Record: $(member device), $(member date). Renew it: tests/gpu/run.sh build"
    elif ! grep -q '"failed": 0,' $record; then
        loudly "THE GPU RECORD SAYS THAT TESTS FAILED: $(member device), $(member date)."
    else
        echo "GPU record: of this tree, $(member device), driver $(member driver), $(member date), all passed"
    fi
}

member() { sed -n 's/^ *"'"$1"'": "\(.*\)",$/\1/p' tests/gpu/record.json; }

# ---- the steps

echo "tamis: tests${quick:+, quick}; logs in build/log/"
must setup tests/setup.sh tests
sed -n 's/^setup: /        /p' "$log/setup"
# shellcheck source=/dev/null
. .deps/environment
export TAMIS_TEST_NVRTC=1 # set-up has found NVRTC or fetched it: a test that finds none fails
must quickstart examples/quickstart.sh
step static tests/static.sh "$build"
must build configure_and_build 2 "$build" "" -DTAMIS_BUILD_TESTS=ON -DTAMIS_STATIC_DEPS=OFF -DCMAKE_BUILD_TYPE=Release
if [ -z "$quick" ]; then
    export ASAN_OPTIONS=detect_stack_use_after_return=1:strict_string_checks=1
    export LSAN_OPTIONS=suppressions=$root/tests/leaks.supp:print_suppressions=0
    asan=$root/build-asan
    # Of debugging information what a report needs, its lines.
    sanitized=("-DTAMIS_SANITIZE=address,undefined" -DCMAKE_BUILD_TYPE=RelWithDebInfo
        -DCMAKE_C_FLAGS_RELWITHDEBINFO="-O2 -g1 -DNDEBUG" -DCMAKE_CXX_FLAGS_RELWITHDEBINFO="-O2 -g1 -DNDEBUG")
    queue sanitizers.build configure_and_build 1 "$asan" "" -DTAMIS_BUILD_TESTS=ON -DTAMIS_WERROR=ON "${sanitized[@]}"
fi
# From here on a step keeps one core busy. First what others wait for, and what is long.
queue kernels.specs generate_specs
queue pytorch run_pytest "$build"
queue_all_tests "" "$build" ""
for arch in sm_90a sm_80; do queue "emulated.$arch" run_emulated "$arch"; done
after kernels.specs kernels.patterns generate_patterns
if [ -z "$quick" ]; then
    queue_all_tests sanitizers.build "$asan" sanitizers.
    queue fuzz.build configure_and_build 1 "$root/build-fuzz" "fuzz_npy fuzz_spec fuzz_store" -DTAMIS_BUILD_TESTS=ON \
        -DTAMIS_BUILD_FUZZ=ON -DTAMIS_WERROR=ON "${sanitized[@]}" -DCMAKE_C_COMPILER=clang -DCMAKE_CXX_COMPILER=clang++
    queue fuzz.seeds make_seeds
    after "fuzz.build fuzz.seeds" fuzz.fuzz_spec fuzz fuzz_spec "$fuzz_seconds"
    after "fuzz.build fuzz.seeds" fuzz.fuzz_store fuzz fuzz_store "$fuzz_seconds"
    # The smallest: 90,000 inputs a second, which reach all that they will within five.
    after "fuzz.build fuzz.seeds" fuzz.fuzz_npy fuzz fuzz_npy $(((fuzz_seconds + 3) / 4))
    queue valgrind.suites memcheck "$build/tests/check_tamis" base plan npy
    # But for the largest case, which goes through the lines that the others go through.
    cases=()
    for folder in tests/reference/*/; do [ "$folder" = tests/reference/gqa_d128/ ] || cases+=("$folder"); done
    queue valgrind.verify memcheck "$build/tamis" verify --device cpu "${cases[@]}"
    queue valgrind.double memcheck "$build/tamis" verify --device cpu --precision fp64 "${cases[@]}"
    queue valgrind.run memcheck "$build/tamis" run --device cpu --input tests/reference/gqa_d64_batch2 \
        --output "$build/valgrind" --lse
fi
queue packages tests/packages.sh "$build"
queue readme tests/readme.sh "$build"
after "kernels.specs kernels.patterns" kernels.twice generate_twice
for shell in bash zsh fish; do queue "completion.$shell" tests/completion.sh "$build" "$shell"; done
queue shellcheck check_scripts
queue warnings check_warnings
drain
step installed tests/installed.sh "$build" # alone: it puts the build folder out of sight

say_record
finish

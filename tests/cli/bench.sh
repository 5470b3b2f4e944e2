#!/bin/sh
# bench.sh: tamis bench: figures on the CPU in text and JSON, peers beside them, wrong arguments, the comparison of files that
# examples/bench/peers.py makes, and a GPU that computes nothing, which must not be timed; attention, then the operator.
# shellcheck source=tests/cli/lib/common.sh
. "$(dirname "$0")/lib/common.sh"

bench() { # bench CODE OPTION...: small problems on the CPU
    wanted=$1
    shift
    want "$wanted" "$tamis" bench attention --device cpu --q-heads 4 --kv-heads 2 --rounds 3 "$@"
}

# rows COUNT: the table has so many.
rows() {
    [ "$(grep -c ' plain C$' out)" -eq "$1" ] || fail "not $1 rows after: $command_line"
    checks=$((checks + 1))
}

# ---- figures
bench 0 --lengths 1,65,130 --head-dims 64,96 --dtypes bf16,fp16 --mask causal,full -q
err_empty
rows 24
out_has 'cpu: median of 3 rounds'
out_has 'TFLOP/S'
out_lacks KEPT
out_lacks DENSE
grep -q '^64  130    4/2  bf16   full ' out || fail "the columns are others"
bench 0 --lengths 90
rows 1
grep -q '^128 ' out || fail "head_dim 128 is not the default"
bench 0 --lengths 130 --head-dims 64 --kept 0.5,1
rows 5
out_has KEPT
out_has DENSE
grep -q '^64  130    4/2  bf16   causal    65 ' out || fail "65 of 130 rows are not kept"
grep -q '^64   65    4/4  bf16   causal     - ' out || fail "there is no dense problem of 65 rows"

bench 0 --lengths 130 --head-dims 64 --kept 0.5 --mask full --json
json_ok bench_attention
[ "$(wc -l <out)" -eq 3 ] || fail "three figures, not three lines"
out_has '"what":"dense","backend":"tamis"'
out_has '"head_dim":64,"seq_len":130,"q_heads":4,"kv_heads":2,"dtype":"bf16","causal":false,"kept":130,"ms":'
out_has '"head_dim":64,"seq_len":65,"q_heads":4,"kv_heads":4,"dtype":"bf16","causal":true,"kept":65,"ms":'
out_has '"what":"compact"'
out_has '"head_dim":64,"seq_len":130,"q_heads":4,"kv_heads":2,"dtype":"bf16","causal":true,"kept":65,"ms":'
grep -q '"ratio":{"dense":[0-9.]*}}$' out || fail "the compressed rows have no ratio to the dense ones"
cp out bench.json

bench 0 --lengths 300 --head-dims 64 --density 0.5,0.1
rows 5
out_has DENSITY
grep -q '^64  300    4/2  bf16   causal      0.5 ' out || fail "half of the blocks are not timed"
bench 0 --lengths 1024 --head-dims 64 --density 0.25 --json
json_ok bench_attention
[ "$(grep -c '"what":"dense"' out)" -eq 2 ] || fail "a pattern is not timed in turns with all blocks"
# Of 1 to 8 blocks a quarter, rounded, and one at least: 1 1 1 1 1 2 2 2 in each of four heads.
out_has '"density":0.25,"blocks":44,'
grep -q '"what":"blocks".*"ratio":{"dense":[0-9.]*}}$' out || fail "the blocks have no ratio to all of them"

# ---- peers: the best time of a backend for the very problem; a dash where there is none
peer() { # peer BACKEND LAYOUT LENGTH KV_HEADS CAUSAL MS
    printf '{"what": "dense", "ms": %s, "tflops": 1.5, "backend": "%s", "layout": "%s", "head_dim": 64, ' "$6" "$1" "$2"
    printf '"seq_len": %s, "q_heads": 4, "kv_heads": %s, "dtype": "bf16", "causal": %s}\n' "$3" "$4" "$5"
}
{
    echo '{"what": "gemm", "tflops": 700.25}'
    peer cudnn head 130 2 true 1e9
    peer cudnn token 130 2 true 1e8
    peer fa2 head 130 2 true 1e10
    peer cudnn head 65 4 true 1e7
} >peers.json
bench 0 --lengths 130 --head-dims 64 --mask causal,full --kept 0.5 --peers peers.json
grep -q ' CUDNN .* FA2 ' out || fail "the peers have no columns"
grep -q ' full .* -  *-  *-  *plain C$' out || fail "a problem without peers has ratios"
bench 0 --lengths 130 --head-dims 64 --kept 0.5 --peers peers.json --json
json_ok bench_attention
# ratio FILTER NAME MS: of the line that the filter finds, the ratio is MS over its time.
ratio() {
    grep "$1" out | sed "s/.*\"ms\":\([^,]*\),.*\"$2\":\([^,}]*\).*/\1 \2/" >numbers
    awk -v ms="$3" 'NF != 2 || $1 * $2 < ms * 0.999 || $1 * $2 > ms * 1.001 {exit 1} {n++} END {exit n != 1}' numbers ||
        fail "$2 is not $3 ms over ours: $(cat numbers)"
    checks=$((checks + 1))
}
ratio '"seq_len":130,.*"kept":130' cudnn 1e8
ratio '"seq_len":130,.*"kept":130' fa2 1e10
ratio '"seq_len":65,' cudnn 1e7
ratio '"what":"compact"' cudnn 1e7
peer fa3 head 130 2 true 1e3 >more.json
bench 0 --lengths 130 --head-dims 64 --peers peers.json --peers more.json
grep -q ' CUDNN .* FA2 .* FA3 ' out || fail "two files, but not the peers of both"
cp out table

want 1 "$tamis" bench attention --device cpu --peers absent.json
err_has 'absent.json'
echo '{"what": "dense", "ms": 1}' >bad.json
bench 1 --lengths 64 --peers peers.json --peers bad.json
err_has 'bad.json:1: "backend" is missing or wrong'
out_empty
sed 's/"causal": true/"causal": 1/' peers.json >bad.json
bench 1 --lengths 64 --peers bad.json
err_has 'bad.json:2: "causal"'

# ---- the same by peers.py, from files alone
if command -v python3 >/dev/null 2>&1; then
    want 0 python3 -B "$source_dir/examples/bench/peers.py" --compare bench.json peers.json more.json
    out_has CUDNN
    out_has FA3
    [ "$(wc -l <out)" -eq 4 ] || fail "three figures, not three rows"
    want 0 python3 -B "$source_dir/examples/bench/peers.py" --help
else
    skip "peers.py: no Python"
fi
want 2 "$source_dir/examples/bench/run.sh"
err_has 'STORE|BUILD OUT'

# ---- wrong arguments
want 2 "$tamis" bench
err_has attention
want 2 "$tamis" bench atention
err_has 'did you mean "attention"?'
wrong() { # wrong WORDS OPTION...
    words=$1
    shift
    bench 2 --lengths 64 "$@"
    err_has "$words"
    out_empty
}
wrong '--lengths: "0"' --lengths 64,0
wrong '--lengths: ""' --lengths 64,
wrong '--lengths: "6 4"' --lengths '6 4'
wrong '--lengths: " 64"' --lengths ' 64'
wrong '--lengths: "16777217"' --lengths 16777217
wrong '--lengths: 64 is given twice' --lengths 64,65,64
wrong '--lengths: more than 16' --lengths 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17
wrong '--head-dims: 80' --head-dims 80
wrong '"fp8" is none of bf16, fp16' --dtypes bf16,fp8
wrong '"window" is none of causal, full' --mask window
wrong '--kept: "0"' --kept 0
wrong '--kept: "1.5"' --kept 0.5,1.5
wrong '--kept: "nan"' --kept nan
wrong '--density: "0"' --density 0
wrong '--density: "2"' --density 0.5,2
wrong '--rounds' --rounds 0
wrong '--rounds' --rounds 1001
wrong '--q-heads 5 is no multiple of --kv-heads 2' --q-heads 5
wrong '--kv-heads' --kv-heads 0
wrong '--seed' --seed -1
wrong '"x.tamis": the CPU' x.tamis
want 2 "$tamis" bench attention --device gpu
want 2 "$tamis" bench attention --precision fp64

# ---- the operator
operator() { # operator CODE OPTION...: small problems on the CPU
    wanted=$1
    shift
    want "$wanted" "$tamis" bench operator --device cpu --q-heads 4 --kv-heads 2 --rounds 3 --window 16 --min-tokens 8 "$@"
}

operator 0 --lengths 116,216 --head-dims 64 --batch 2 -q
err_empty
rows 8
out_has 'cpu: median of 3 rounds; scope head, window 16, pool 7, min_tokens 8'
grep -Eq '^64  116  2    4/2  bf16   dense +116 +[0-9.]+( +-){7}  plain C$' out || fail "no dense row"
grep -Eq '^64  116  2    4/2  bf16   ratio 0.75 +91 ' out || fail "not 75 of 100 tokens are kept, and the window"
grep -Eq '^64  216  2    4/2  bf16   ratio 0.25 +66( +-?[0-9.]+){8}  plain C$' out || fail "not eight times"
operator 0 --lengths 116 --ratios 1,0.5 --dtypes bf16,fp16
rows 6
grep -Eq '^128  116 .* ratio 1 +116 ' out || fail "a ratio of 1 drops tokens"
operator 0 --lengths 10,16,17 --head-dims 64 --ratios 0.5 --window 16
rows 6

operator 0 --lengths 216 --head-dims 64 --coverage 0.2 --scope kv_group --pool 1 --json
json_ok bench_operator
[ "$(wc -l <out)" -eq 2 ] || fail "two figures, not two lines"
out_has '"what":"dense","device":"cpu","gpu":null,"batch":1,"head_dim":64,"seq_len":216,'
out_has '"policy":"coverage","coverage":0.2,"scope":"kv_group","window":16,"pool":1,"min_tokens":8,"kept_least":'
out_has '"step_ms":{"score":'
# The ratio is the dense time over the run's; what comes before attention takes some of it.
tr '{' ',' <out | tr ',' '\n' | sed -n 's/^"\(ms\|attend\|rest_ms\|dense_ratio\)":\([-0-9.e]*\).*/\1 \2/p' >numbers
awk 'NR == 1 {dense = $2} NR > 1 {v[$1] = $2}
     function off(a, b) {return a - b > 1e-6 || b - a > 1e-6}
     END {exit NR != 5 || v["rest_ms"] <= 0 || off(v["dense_ratio"], dense / v["ms"])}' numbers ||
    fail "times do not agree: $(tr '\n' ' ' <numbers)"
checks=$((checks + 1))

wrong_operator() { # wrong_operator WORDS OPTION...
    words=$1
    shift
    operator 2 --lengths 64 "$@"
    err_has "$words"
    out_empty
}
wrong_operator '--ratios and --coverage' --ratios 0.5 --coverage 0.1
wrong_operator '--ratios: "0"' --ratios 0
wrong_operator '--coverage' --coverage 1
wrong_operator '--coverage' --coverage -0.1
wrong_operator '--pool 4: it must be odd' --pool 4
wrong_operator '--window' --window 1025
wrong_operator '--batch' --batch 0
wrong_operator '--scope' --scope heads
wrong_operator '--min-tokens' --min-tokens -1
wrong_operator '"x.tamis": the CPU' x.tamis
want 2 "$tamis" bench operator --device cpu --kept 0.5
want 1 "$tamis" bench operator --device cpu --batch 65535 --q-heads 2 --kv-heads 2 --lengths 64
err_has 'batch * kv_heads'

# ---- compose: four ways on the same inputs. A pattern of all blocks is no pattern: what it gives has the error of what it is
# set upon.
{
    printf '\223NUMPY\1\0v\0'
    printf '%-117s\n' "{'descr': '<u2', 'fortran_order': False, 'shape': (1, 1, 3, 3), }"
    printf '\1\0\1\0\1\0\1\0\1\0\1\0\1\0\1\0\1\0'
} >all.npy
compose() { # compose CODE OPTION...
    wanted=$1
    shift
    want "$wanted" "$tamis" bench compose --device cpu --q-heads 4 --kv-heads 2 --rounds 2 --lengths 300 --window 32 \
        --min-tokens 16 --head-dims 64 "$@"
}
compose 0 --pattern blocks=all.npy --coverage 0.05 --json
json_ok bench_compose
[ "$(wc -l <out)" -eq 4 ] || fail "four ways, not four lines"
error_of() { sed -n "s/.*\"what\":\"$1\".*\"error\":\([^,]*\),.*/\1/p" out; }
[ "$(error_of pattern)" = "$(error_of dense)" ] || fail "all blocks are not dense attention"
[ "$(error_of both)" = "$(error_of tokens)" ] || fail "all blocks of the kept tokens are not attention to them"
awk -v dense="$(error_of dense)" -v tokens="$(error_of tokens)" 'BEGIN {exit !(tokens > 2 * dense && tokens < 0.5)}' ||
    fail "tokens that are dropped make no error, or all of it: $(error_of tokens)"
grep -q '"what":"pattern".*"kept":300,"density":1,' out || fail "the pattern is not all blocks of all tokens"
grep -q '"what":"both".*"coverage":0.05,"pattern":"blocks","sink":6,"local":24,"hitter":3,"spacing":64,"kept":[12]' out ||
    fail "no tokens are dropped"
compose 0 --pattern blocks=all.npy --ratios 1 --dtypes fp16 --peers peers.json
grep -q '^64  300    4/2  fp16   both      300 ' out || fail "all tokens are kept, not all of them counted"
out_has CUDNN
compose 0 --pattern sliding,sink_tokens=8,window_tokens=40 --json
# Of three query blocks the first two have all blocks, the last one its own, the one before and the sinks'.
grep -q '"what":"pattern".*"pattern":"sliding".*"density":1,' out || fail "the blocks of a window are not counted"
compose 0 --pattern topk_blocks,blocks=1 --json
grep -q '"what":"pattern".*"density":0.5,' out || fail "one block of each query block is not half of six"
compose 1 --pattern blocks=absent.npy
err_has absent.npy
compose 2 --sink -1
compose 2 --spacing 0
compose 2 --pattern nonsense
compose 2 --pattern none
err_has 'nothing to compare'
# Without a pattern it is the published one's, with its parameters.
compose 0
out_has 'pattern flexprefill, gamma 0.95, tau 0.1, min_tokens 1024'

# ---- ablate: six ways for each ratio
ablate() { # ablate CODE OPTION...
    wanted=$1
    shift
    want "$wanted" "$tamis" bench ablate --device cpu --q-heads 4 --kv-heads 2 --rounds 2 --lengths 232 --window 32 \
        --min-tokens 16 --head-dims 64 --layers 2 "$@"
}
ablate 0 --ratios 1,0.25 -q
err_empty
out_has 'cpu: median of 2 rounds; means of 2 layers, 0.5 of their heavy hitters their own; window 32, pool 7, min_tokens 16'
for way in head kv_group layer; do
    grep -Eq "^64  232    4/2  bf16    0.25  $way +82 +[0-9.]+ % +[0-9.]+ %( +[0-9.e+-]+){5}( +[0-9.]+){3}\$" out ||
        fail "$way has no row"
done
for way in random recent evict; do
    grep -Eq "^64  232    4/2  bf16    0.25  $way +82 +[0-9.]+ % +[0-9.]+ %( +[0-9.e+-]+){5}( +-){3}\$" out ||
        fail "$way has no row, or a time of one call"
    grep -Eq "^64  232    4/2  bf16       1  $way +232 +100.00 % +100.00 % " out || fail "all tokens are not all of the mass"
done
ablate 0 --ratios 0.5 --own 1 --pool 1 --fits 2 --dtypes bf16,fp16 --json
json_ok bench_ablate
[ "$(wc -l <out)" -eq 12 ] || fail "six ways and two dtypes, not twelve lines"
settings='"window":32,"pool":1,"min_tokens":16,"sink":6,"local":24,"hitter":3,"spacing":64,"own":1,'
out_has "$settings"'"layers":2,"fits":2,"kept":132,'
value_of() { sed -n "s/.*\"choice\":\"$1\".*\"dtype\":\"bf16\".*\"$2\":\([^,]*\),.*/\1/p" out; }
awk -v head="$(value_of head window_mass)" -v layer="$(value_of layer window_mass)" -v evict="$(value_of evict window_mass)" \
    'BEGIN {exit !(head >= layer && layer > evict && evict > 0)}' || fail "what was taken once covers as much"
[ "$(grep -c '"dense_ratio":' out)" -eq 6 ] || fail "not just the scopes are timed"
[ "$(grep -c '"fused":true,"mapped_ms":.*"map_ratio":' out)" -eq 6 ] || fail "not just the scopes are timed with a map"
# The same inputs and choices again, but for the times.
sed 's/"ms":.*"map_ratio":[^,]*,//' out >first
ablate 0 --ratios 0.5 --own 1 --pool 1 --fits 2 --dtypes bf16,fp16 --json
sed 's/"ms":.*"map_ratio":[^,]*,//' out | cmp -s - first || fail "the same seed has other figures"
ablate 0 --ratios 0.5 --own 1 --pool 1 --fits 2 --dtypes bf16,fp16 --seed 2 --json
sed 's/"ms":.*"map_ratio":[^,]*,//' out | cmp -s - first && fail "another seed has the same figures"
wrong_ablate() { # wrong_ablate WORDS OPTION...
    words=$1
    shift
    ablate 2 "$@"
    err_has "$words"
    out_empty
}
wrong_ablate '--layers' --layers 0
wrong_ablate '--layers' --layers 257
wrong_ablate '--fits' --fits 0
wrong_ablate '--own' --own 1.5
wrong_ablate '--own' --own -1
wrong_ablate '--hitter' --hitter 51
wrong_ablate '--ratios' --ratios 0
wrong_ablate '--pool 4: it must be odd' --pool 4
wrong_ablate '"x.tamis": the CPU' x.tamis
wrong_ablate 'unknown option --coverage' --coverage 0.5
wrong_ablate 'unknown option --scope' --scope head

# ---- a GPU: none; or one whose kernels do nothing, so that outputs keep their poison
for what in attention operator compose ablate; do
    want 4 env TAMIS_LIBCUDA=/nonexistent/libcuda.so.1 "$tamis" bench $what llama-3.1-8b
done
if [ -n "${TAMIS_FAKE_CUDA:-}" ]; then
    export TAMIS_LIBCUDA="$TAMIS_FAKE_CUDA" TAMIS_LIBNVML="$TAMIS_FAKE_CUDA" FAKE_CUDA_CC=8.0 TMPDIR="$work"
    small="--q-heads 2 --kv-heads 1"
    want 2 "$tamis" bench attention
    err_has 'STORE or SPEC is missing'
    want 2 "$tamis" bench operator
    err_has 'STORE or SPEC is missing'
    want 1 "$tamis" bench attention lama-3.1-8b
    err_has 'did you mean'
    echo 'name: 1' >bad.yaml
    want 3 "$tamis" bench attention bad.yaml
    want 4 "$tamis" bench attention llama-3.1-8b --device cuda:1
    # The host's own time: kernels of any content load, and launches do nothing.
    want 0 "$tamis" gen gpt-oss-20b -o host.tamis --arch sm_80 --defaults-only --no-compile
    want 5 "$tamis" bench host host.tamis
    err_has 'is not compiled for sm_80'
    want 0 env TAMIS_LIBNVRTC="$TAMIS_FAKE_CUDA" "$tamis" gen gpt-oss-20b -o host.tamis --arch sm_80 --defaults-only
    want 0 "$tamis" bench host host.tamis --processes 2 --calls 9 -q
    err_empty
    out_has 'gpt-oss-20b, seq_len 16384, ratio 0.5: 2 processes, 9 calls each'
    [ "$(grep -cE ' [0-9.]+ +[0-9.]+  (ms|us)$' out)" -eq 9 ] || fail "not nine figures"
    want 0 "$tamis" bench host host.tamis --spec gpt-oss-20b --seq-len 4096 --ratio 0.25 --processes 3 --calls 5 --json
    json_ok bench_host
    out_has '"spec":"gpt-oss-20b","seq_len":4096,"ratio":0.25,"processes":3,"calls":5,"first_ms":'
    # The three steps make the first launch; the most of them is no less than their median.
    tr '{' ',' <out | tr ',' '\n' | sed -n 's/^"\([a-z_]*_[mu]s\)":\([0-9.e-]*\).*/\1 \2/p' >numbers
    awk '{v[$1] = $2} END {for (n in v) if (v[n] < 0 || n !~ /^most/ && v["most_" n] < v[n]) exit 1
         exit NR != 18 || v["first_ms"] > v["most_open_ms"] + v["most_plan_ms"] + v["most_launch_ms"] ||
              v["run_us"] <= 0}' numbers ||
        fail "figures that cannot be: $(tr '\n' ' ' <numbers)"
    want 1 env FAKE_CUDA_FAIL=cuGraphLaunch:1:700 "$tamis" bench host host.tamis --processes 1 --calls 3
    err_has 'cannot replay a graph'
    want 4 "$tamis" bench host host.tamis --device cuda:1
    want 4 env FAKE_CUDA_CC=7.5 "$tamis" bench host host.tamis
    want 1 env FAKE_CUDA_CC=9.0 "$tamis" bench host host.tamis
    err_has 'run tamis gen with --arch sm_90a'
    want 2 "$tamis" bench host host.tamis --device cpu
    want 2 "$tamis" bench host host.tamis --processes 0
    want 2 "$tamis" bench host
    want 1 "$tamis" bench host absent.tamis
    export TAMIS_LIBNVRTC="$TAMIS_FAKE_CUDA"
    # shellcheck disable=SC2086
    want 6 "$tamis" bench attention llama-3.1-8b $small --lengths 64,100
    err_has 'head_dim 128, seq_len 64, heads 2/1, bf16, causal: the error is nan, at most 0.004 is right; not timed'
    err_has 'seq_len 100'
    out_has 'cuda:0 ('
    out_lacks MS
    [ -z "$(find . -name 'tamis-bench-*')" ] || fail "a temporary store was left"
    want 0 "$tamis" gen gpt-oss-20b phi-3-mini -o both.tamis --arch sm_80 --defaults-only
    # shellcheck disable=SC2086
    want 6 "$tamis" bench attention both.tamis $small --lengths 64 --kept 0.5 --json
    json_ok error
    [ "$(grep -c '"exit":6' out)" -eq 6 ] || fail "two head dims, three problems each, and not six errors"
    # shellcheck disable=SC2086
    want 1 "$tamis" bench attention both.tamis $small --lengths 64 --head-dims 256
    err_has 'head_dim 256'
    # shellcheck disable=SC2086
    want 1 env FAKE_CUDA_FAIL=cuMemAlloc_v2:1:2 "$tamis" bench attention both.tamis $small --lengths 64 --head-dims 64
    err_has 'out of device memory'
    # shellcheck disable=SC2086
    want 1 env FAKE_CUDA_FAIL=cuLaunchKernelEx:1:700 "$tamis" bench attention both.tamis $small --lengths 64,100
    [ "$(grep -c 'error: ' err)" -eq 1 ] || fail "it went on after the device was lost"
    # shellcheck disable=SC2086
    want 6 "$tamis" bench operator both.tamis $small --lengths 64,2000 --ratios 0.5 --head-dims 64
    err_has 'seq_len 64, batch 1, heads 2/1, bf16, dense: sequence 0 keeps -1 tokens, of 64 to 64 that are right; not timed'
    err_has 'seq_len 2000, batch 1, heads 2/1, bf16, ratio 0.5: sequence 0 keeps -1 tokens, of 1152 to 1152 that are right'
    out_lacks MS
    # shellcheck disable=SC2086
    want 6 "$tamis" bench ablate both.tamis $small --lengths 2000 --ratios 0.5 --head-dims 64
    err_has 'seq_len 2000, heads 2/1, bf16: of -1 kept tokens, where 1152 are right, a list is not in order; not timed'
    out_lacks MS
    # shellcheck disable=SC2086
    want 1 env FAKE_CUDA_FAIL=cuLaunchKernelEx:1:700 "$tamis" bench operator both.tamis $small --lengths 64,100
    [ "$(grep -c 'error: ' err)" -eq 1 ] || fail "the operator went on after the device was lost"
else
    skip "GPUs: no TAMIS_FAKE_CUDA"
fi
finish

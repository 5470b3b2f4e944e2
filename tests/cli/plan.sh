#!/bin/sh
# plan.sh: tamis plan: facts, workspace, launches and floors, from specs and stores, without a GPU and with a fake one.
# shellcheck source=tests/cli/lib/common.sh
. "$(dirname "$0")/lib/common.sh"

# ---- from a spec
want 0 "$tamis" plan llama-3.1-8b --arch sm_90a --ratio 0.5
err_empty
out_has 'llama-3.1-8b: bf16, batch 1, heads 32/8, head_dim 128, seq_len 131072, kernels for sm_90a'
out_has 'selection: ratio 0.5, scope head, window 128, pool 7, min_tokens 1024'
out_has 'candidates, N: 130944'
out_has 'kept: 65600 of 131072, the window included'
out_has 'capacity, C: 65600; lists, Hi: 32; compact heads, Hc: 32'
out_lacks STAGE
out_lacks pattern
want 0 "$tamis" plan llama-3.1-8b --arch sm_80 --explain
out_has 'kept: by coverage, known on the device only; 65600 are assumed here (--assume-kept 0.5)'
out_has 'capacity, C: 131072'
for stage in score_stats score_merge score_sum select_pool select_budget select_tokens 'compress K, V' attend \
    'decompress zero rows'; do
    grep -q "^$stage  *[0-9]* x [0-9]* x [0-9]* " out || fail "no launch of $stage"
    checks=$((checks + 1))
done
grep -q '^compress K, V  *4096 x 16 x 1 .* tamis_compress_d128' out || fail "the grid of compress is another"
grep -q '^attend .* 1024 x 32 x 1 .* tamis_attend_bf16_d128' out || fail "attention's grid is another"
grep -q '^score, pass 1  *269.484  *0.016  *137.439$' out || fail "the score's floor is another"
grep -q '^attend  *[0-9.]*  *[0-9.]*  *35253.663$' out || fail "attention's floor is another"
out_lacks 'GB/s'
want 0 "$tamis" plan llama-3.1-8b --arch sm_90a --explain --assume-kept 0.25 --scope kv_group
out_has '32864 are assumed'
out_has 'attend_tma + zero rows'
out_lacks 'decompress zero rows'
out_has 'lists, Hi: 8; compact heads, Hc: 8'
out_has 'an SM each, at most '
out_has "CHOSEN AS"
want 0 "$tamis" plan llama-3.1-8b --arch sm_90a --explain --ratio 0.5 --bandwidth 4300 --rate 790
out_lacks select_budget # pool writes a fixed one
grep -q '^score, pass 1 .* 0.1740$' out || fail "the score's least time is another"
out_has 'at 4300 GB/s and 790 TFLOP/s: at least 45.'
# Blocks a list: lists of more than 16 and 24 Ki candidates are shared.
blocks() { # blocks SEQ_LEN BUDGET TOKENS
    want 0 "$tamis" plan llama-3.1-8b --arch sm_90a --explain --seq-len "$1"
    grep -q "^select_budget  *$2 x 1 x 1 " out || fail "$1 tokens: the grid of select_budget is another"
    grep -q "^select_tokens  *$3 x 32 x 1 " out || fail "$1 tokens: the grid of select_tokens is another"
    checks=$((checks + 2))
}
blocks 16512 1 1
blocks 16513 8 1
blocks 24704 8 1
blocks 24705 8 4
want 0 "$tamis" plan llama-3.1-8b --arch sm_80 --seq-len 1000 --explain
out_has 'kept: all 1000, whatever the data: a dense plan'
[ "$(grep -c ' x .* tamis_' out)" -eq 1 ] || fail "a dense plan has other launches than attention"
want 0 "$tamis" plan llama-3.1-8b --device cpu --dense --batch 2 --explain
out_has 'the CPU, which runs no kernels'
out_lacks STAGE
out_has 'AT LEAST'

# ---- with a block pattern: of the spec's own, of the option's, and of one whose kernels are not there
want 0 "$tamis" plan llama-3.1-8b-flexprefill --arch sm_90a --explain
out_has 'pattern: flexprefill, gamma 0.95'
for family in blocks attend_blocks pattern pattern_lines pattern_heads; do
    grep -q "^$family  *${family}_.* default$" out || fail "no variant of $family"
done
out_lacks pattern_xattn
grep -q '^attend_tma + zero rows ' out || fail "the launches are not those without the pattern"
want 0 "$tamis" plan llama-3.1-8b-flexprefill --arch sm_90a --explain --pattern xattention,stride=8 --json
out_has '"pattern":"xattention"'
out_has '{"family":"pattern_xattn","name":"pattern_xattn_'
out_lacks pattern_lines
want 0 "$tamis" plan llama-3.1-8b-flexprefill --arch sm_90a --explain --pattern none
out_lacks attend_blocks
want 1 "$tamis" plan llama-3.1-8b --arch sm_90a --pattern sliding
err_has 'llama-3.1-8b makes no blocks kernel for sm_90a'
want 2 "$tamis" plan llama-3.1-8b --arch sm_90a --pattern flexprefill,gamma=2
err_has gamma
want 2 "$tamis" plan llama-3.1-8b --arch sm_90a --pattern flexprefill,gamma=0.9,tau=0.1,gamma=0.8
err_has '--pattern: gamma is given twice'

want 0 "$tamis" plan llama-3.1-8b --arch sm_80 --count 5000 --batch 3 --seq-len 20000 --explain --json
json_ok plan
[ "$(wc -l <out)" -eq 1 ] || fail "one plan, not one line"
shape='"batch":3,"q_heads":32,"kv_heads":8,"head_dim":128,"seq_len":20000,'
out_has "$shape"'"policy":"count","scope":"head","pattern":"none","candidates":19872,"capacity":5128,'
out_has '"dense":false,"kept":5128,"kept_is_assumed":false,"workspace_bytes":'
out_has '{"stage":"compress","what":"K, V",'
out_has '"variants":[{"family":"score","name":"score_'
out_has ',"chosen_as":"default"}'
# The parts add up to the whole.
parts='workspace_bytes\|score\|rank\|mean\|partial\|lse2\|kept\|indices\|compact_[kv]\|counter'
tr '{},' '\n' <out | sed -n 's/^"\('"$parts"'\)":\([0-9]*\)$/\1 \2/p' >numbers
awk '$1 == "workspace_bytes" {whole = $2; next} whole {sum += $2; n++} END {exit !(n == 10 && sum == whole)}' numbers ||
    fail "the parts are not the whole: $(tr '\n' ' ' <numbers)"
checks=$((checks + 1))
want 0 "$tamis" plan llama-3.1-8b --arch sm_80 --json
json_ok plan
out_lacks launches

# ---- from a store
want 0 "$tamis" gen llama-3.1-8b qwen3-8b -o two.tamis --no-compile --arch sm_80,sm_90a --defaults-only
want 0 "$tamis" gen llama-3.1-8b -o one.tamis --no-compile --arch sm_80 --defaults-only
want 0 "$tamis" plan one.tamis --explain
out_has 'llama-3.1-8b: bf16'
out_has 'kernels for sm_80'
cp out stored
want 0 "$tamis" plan llama-3.1-8b --arch sm_80 --explain
same out stored
want 0 "$tamis" plan two.tamis --spec qwen3-8b --arch sm_90a
out_has 'qwen3-8b: bf16'
want 1 "$tamis" plan two.tamis --arch sm_80
err_has qwen3-8b
want 2 "$tamis" plan two.tamis --spec qwen3-8b
err_has 'choose with --arch: two.tamis has kernels for several, as '
want 1 "$tamis" plan one.tamis --arch sm_90a
err_has 'no score kernel for head_dim 128, bf16, sm_90a: run tamis gen with --arch sm_90a'
want 1 "$tamis" plan one.tamis --pattern sliding
err_has 'run tamis gen with --arch sm_80 on a spec whose tiles have tiles/pattern.yaml'
# The spec's pattern is told, of a spec as of its store, with its kernels; what is counted is without it.
want 0 "$tamis" gen llama-3.1-8b-flexprefill -o patterned.tamis --no-compile --arch sm_80 --defaults-only
want 0 "$tamis" plan llama-3.1-8b-flexprefill --arch sm_80 --explain
pattern='pattern: flexprefill, gamma 0.95, tau 0.1, min_tokens 1024, max_tokens 0'
out_has "$pattern: workspace, launches and floors are without it"
grep -q '^attend_blocks  *attend_blocks_bf16_.* default$' out || fail "no variant of attention on blocks"
cp out stored
want 0 "$tamis" plan patterned.tamis --explain
same out stored
want 0 "$tamis" plan patterned.tamis --json
json_ok plan
out_has '"pattern":"flexprefill"'
if can_compile; then
    want 0 "$tamis" gen llama-3.1-8b -o built.tamis --arch sm_80 --defaults-only
    want 0 "$tamis" plan built.tamis --explain
    grep -Eq '^attend +1024 x 32 x 1 +[0-9]+ +[0-9]+ +[0-9]+ ' out || fail "no registers of a compiled kernel"
    want 0 "$tamis" plan built.tamis --explain --json
    json_ok plan
    out_has '"compiled":true,"registers":'
else
    skip "registers: no NVRTC"
fi

# ---- wrong arguments
wrong() { # wrong WORDS OPTION...
    words=$1
    shift
    want 2 "$tamis" plan llama-3.1-8b "$@"
    err_has "$words"
    out_empty
}
wrong 'choose with --arch'
wrong '"sm_42" is none of sm_80, sm_86' --arch sm_42
wrong '--spec chooses from a store' --spec x --arch sm_80
wrong '--ratio and --dense' --ratio 0.5 --dense --arch sm_80
wrong '--seq-len' --seq-len 0 --arch sm_80
wrong '--batch' --batch x --arch sm_80
wrong '--assume-kept' --assume-kept 1.5 --arch sm_80
wrong '--bandwidth and --rate go together' --bandwidth 3000 --arch sm_80
wrong '--bandwidth' --bandwidth 0 --rate 1 --arch sm_80
wrong '--arch is for --device none' --device cpu --arch sm_80
wrong '"gpu" is no device' --device gpu
want 2 "$tamis" plan
err_has 'STORE|SPEC'
want 1 "$tamis" plan lama-3.1-8b --arch sm_80
err_has 'did you mean'
want 1 "$tamis" plan absent.tamis --arch sm_80
want 1 "$tamis" plan llama-3.1-8b --arch sm_80 --batch 65535
err_has 'batch * kv_heads'
echo 'name: 1' >bad.yaml
want 3 "$tamis" plan bad.yaml --arch sm_80

# ---- a GPU: its architecture and its SMs
want 4 env TAMIS_LIBCUDA=/nonexistent/libcuda.so.1 "$tamis" plan llama-3.1-8b --device cuda:0
if [ -n "${TAMIS_FAKE_CUDA:-}" ]; then
    export TAMIS_LIBCUDA="$TAMIS_FAKE_CUDA"
    want 0 env FAKE_CUDA_CC=9.0 "$tamis" plan llama-3.1-8b --device cuda:0 --explain
    out_has 'kernels for sm_90a'
    grep -Eq '^attend_tma \+ zero rows +132 x 1 x 1 ' out || fail "not a block an SM"
    out_lacks 'an SM each'
    want 0 env FAKE_CUDA_CC=8.0 "$tamis" plan one.tamis --device cuda:0
    want 1 env FAKE_CUDA_CC=9.0 "$tamis" plan one.tamis --device cuda:0
    want 4 "$tamis" plan one.tamis --device cuda:7
else
    skip "GPUs: no TAMIS_FAKE_CUDA"
fi
finish

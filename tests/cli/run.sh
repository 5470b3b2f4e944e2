#!/bin/sh
# run.sh: tamis run and tamis verify: the reference cases on the CPU, selection options, bad input, and a GPU that computes
# nothing, which must not pass.
# shellcheck source=tests/cli/lib/common.sh
. "$(dirname "$0")/lib/common.sh"

# ---- the reference cases
count=$(find "$reference" -name case.yaml | wc -l)
[ "$count" -ge 6 ] || fail "only $count reference cases"
want 0 "$tamis" verify "$reference"/*
[ "$(grep -c ' equal$' out)" -eq "$count" ] || fail "not all cases are equal"
err_has "$count cases equal, 0 not"
want 0 "$tamis" verify --device cpu --precision fp64 -q "$reference"/*
[ "$(grep -c ' equal$' out)" -eq "$count" ] || fail "not all cases are equal in fp64"
err_empty
want 0 "$tamis" verify --input "$reference/dense_short" --input "$reference/gqa_d64_batch2" "$reference/min_tokens_floor" --json
json_ok verify
[ "$(grep -c '"equal":true' out)" -eq 3 ] || fail "three folders, not three verdicts"
out_has '"kept":[511,493]'

for folder in "$reference"/*/; do
    name=$(basename "$folder")
    want 0 "$tamis" run --input "$folder" --output "out_$name"
    for part in 'sequence 0: kept ' score select compress attend decompress 'one call'; do out_has "$part"; done
    for file in output indices kept score; do present "out_$name/$file.npy"; done
    absent "out_$name/lse.npy"
    # The chosen tokens and counts are the reference's, to the byte; the files are NumPy's own form.
    same "out_$name/kept.npy" "$folder/kept.npy"
    same "out_$name/indices.npy" "$folder/indices.npy"
    [ "$(wc -c <"out_$name/output.npy")" -eq "$(wc -c <"$folder/output.npy")" ] || fail "output.npy has another size"
    # What was written passes as a case of its own.
    mkdir "case_$name"
    cp "$folder"/[qkv].npy "$folder/case.yaml" "out_$name"/*.npy "case_$name"
    want 0 "$tamis" verify "case_$name"
done
[ -z "$(find . -name '*.tmp')" ] || fail "temporary files were left"

# The same input twice gives the same bytes.
want 0 "$tamis" run --input "$reference/gqa_d128" --output twice --no-steps --lse -q
err_empty
out_lacks decompress
present twice/lse.npy
for file in output indices kept score; do same "twice/$file.npy" "out_gqa_d128/$file.npy"; done
want 0 "$tamis" run --input "$reference/gqa_d128" --output twice --json
json_ok run
out_has '"kept":[1064]'
out_has '"step_ms":{"score":'

# ---- options win over case.yaml
short=$reference/gqa_d64_batch2 # 1024 tokens, window 64, pool 5, min_tokens 64, coverage 0.1
kept() { # kept EXPECTED OPTION...
    expected=$1
    shift
    want 0 "$tamis" run --input "$short" --output options --no-steps --json -q "$@"
    out_has "\"kept\":[$expected]"
}
kept 1024,1024 --dense
kept 1024,1024 --coverage 0
kept 1024,1024 --ratio 1
kept 304,304 --ratio 0.25
kept 164,164 --count 100
kept 128,128 --count 1
kept 65,65 --count 1 --min-tokens 1
kept 101,101 --count 1 --min-tokens 1 --window 100
kept 511,493 --pool 5 --scope head
kept 164,164 --count 100 --scope layer
kept 164,164 --count 100 --scope kv_group
want 0 "$tamis" run --input "$short" --output options --count 100 --scope layer
head -c 128 options/indices.npy | grep -q "'shape': (2, 1, 164)" || fail "indices of scope layer have another shape"

# Without case.yaml: dense, and it is said; with a store, the store's spec.
mkdir bare
cp "$short"/[qkv].npy bare
want 0 "$tamis" run --input bare --output options --no-steps
err_has 'dense: '
out_has 'kept 1024 of 1024'
sed -e 's/coverage: 0.005/count: 100/' -e 's/window: 128/window: 64/' -e 's/min_tokens: 1024/min_tokens: 1/' \
    -e 's/^name: .*/name: small/' "$source_dir/specs/gpt-oss-20b.yaml" >small.yaml
want 0 "$tamis" gen small.yaml -o small.tamis --no-compile --defaults-only --arch sm_80
want 0 "$tamis" run --input bare --output options --no-steps --store small.tamis --device cpu
out_has 'kept 164 of 1024'
want 0 "$tamis" run --input "$short" --output options --no-steps --store small.tamis --device cpu --json
out_has '"kept":[511,493]'
sed 's/^name: .*/name: other/' small.yaml >other.yaml
want 0 "$tamis" gen other.yaml -o small.tamis --no-compile --defaults-only --arch sm_80
want 0 "$tamis" gen other.yaml -o other.tamis --no-compile --defaults-only --arch sm_80
want 1 "$tamis" run --input bare --output options --store small.tamis --device cpu
err_has other
want 0 "$tamis" run --input bare --output options --no-steps --store small.tamis --device cpu --spec other
out_has 'kept 164 of 1024'
want 1 "$tamis" run --input bare --output options --store small.tamis --device cpu --spec smal
want 1 "$tamis" run --input bare --output options --store absent.tamis --device cpu

# ---- block patterns: all blocks are no pattern, to the byte; others change the output, and the steps agree
blocks_file() { # blocks_file FILE T WORD...: uint16 (1, 1, T, T), the words again and again
    file=$1 tiles=$2 i=0
    shift 2
    printf '\223NUMPY\1\0v\0' >"$file"
    printf '%-117s\n' "{'descr': '<u2', 'fortran_order': False, 'shape': (1, 1, $tiles, $tiles), }" >>"$file"
    while [ $i -lt $((tiles * tiles)) ]; do
        for word in "$@"; do
            [ $i -ge $((tiles * tiles)) ] || printf '%b' "\\0$word\\0" >>"$file"
            i=$((i + 1))
        done
    done
}
blocks_file all.npy 8 1
blocks_file some.npy 8 1 0 0
blocks_file none.npy 8 0
want 0 "$tamis" run --input "$short" --output plain
want 0 "$tamis" run --input "$short" --output pattern --pattern blocks=all.npy
out_has 'blocks: 288, 100.0 % of those up to the diagonal'
for file in output indices kept score; do same "plain/$file.npy" "pattern/$file.npy"; done
want 0 "$tamis" run --input "$short" --output pattern --pattern blocks=some.npy --json
json_ok run
out_has '"pattern":"blocks","density":0.41'
out_has '"step_ms":{"score":'
! cmp -s plain/output.npy pattern/output.npy || fail "a third of the blocks gives what all give"
want 0 "$tamis" run --input "$short" --output pattern --pattern blocks=none.npy --dense
out_has 'blocks: 0, 0.0 %'
tail -c 4096 pattern/output.npy >rows
head -c 4096 /dev/zero >zeros
same rows zeros
want 1 "$tamis" run --input "$short" --output o --pattern blocks=absent.npy
err_has absent.npy
want 1 "$tamis" run --input "$reference/gqa_d128" --output o --pattern blocks=all.npy
err_has 'all.npy: blocks must be int32 or uint16 (1, 4, '
want 1 "$tamis" run --input "$short" --output o --pattern "blocks=$short/q.npy"
err_has 'blocks must be'
want 2 "$tamis" run --input "$short" --output o --pattern blocks
err_has '"blocks" is no pattern, sliding, vertical_slash, flexprefill, xattention or topk_blocks would be right'
want 2 "$tamis" run --input "$short" --output o --pattern slidin
want 2 "$tamis" run --input "$short" --output o --pattern sliding,sink_token=4
err_has 'sliding has no parameter "sink_token", did you mean "sink_tokens"?'
want 2 "$tamis" run --input "$short" --output o --pattern sliding,gamma=0.5
err_has 'sliding has no parameter "gamma", there are: sink_tokens, window_tokens'
want 2 "$tamis" run --input "$short" --output o --pattern flexprefill,gamma=.9,tau=x
err_has 'tau is "x", a number of at least 0 and at most 1 would be right'
want 2 "$tamis" run --input "$short" --output o --pattern xattention,stride=9
err_has 'stride is "9", 4, 8, 16, 32 or 64 would be right'
want 2 "$tamis" run --input "$short" --output o --pattern flexprefill,gamma
err_has '"gamma" is no name=value'
absent o

# ---- the pattern of a store's spec: what the option says, unless the option says otherwise; bundles and unions keep it
sed 's/^name: .*/name: patterned/' small.yaml >patterned.yaml
echo 'pattern: {kind: topk_blocks, ratio: 0.15}' >>patterned.yaml
want 0 "$tamis" gen patterned.yaml -o patterned.tamis --no-compile --defaults-only --arch sm_80
want 0 "$tamis" export patterned.tamis -o bundle.tamis --sources-only
want 0 "$tamis" import bundle.tamis --into small.tamis
want 0 "$tamis" merge other.tamis bundle.tamis -o merged.tamis
want 0 "$tamis" run --input bare --output wanted --store other.tamis --device cpu --pattern topk_blocks,ratio=0.15
for store in patterned bundle small merged; do
    want 0 "$tamis" run --input bare --output found --store $store.tamis --device cpu --spec patterned
    out_has 'pattern: topk_blocks, ratio 0.15'
    same wanted/output.npy found/output.npy
done
want 0 "$tamis" run --input bare --output wanted --store other.tamis --device cpu
out_lacks pattern
want 0 "$tamis" run --input bare --output found --store merged.tamis --device cpu --spec other
out_lacks pattern
want 0 "$tamis" run --input bare --output found --store bundle.tamis --device cpu --pattern none
out_lacks pattern
same wanted/output.npy found/output.npy

# ---- patterns that are made of Q and K: the steps give the bits of the one call, or the tool says so and fails
for pattern in sliding,sink_tokens=4,window_tokens=200 vertical_slash,vertical_lines=100,slash_lines=100 \
    flexprefill,min_tokens=128,gamma=0.8 xattention,stride=8,threshold=0.7 topk_blocks,blocks=2; do
    want 0 "$tamis" run --input "$short" --output made --pattern "$pattern"
    out_has "pattern: ${pattern%%,*}, "
    grep -q '^blocks  *[0-9]' out || fail "making the lists has no time"
    ! cmp -s plain/output.npy made/output.npy || fail "$pattern gives what all blocks give"
done
want 0 "$tamis" run --input "$short" --output made --pattern sliding --json
out_has '"pattern":"sliding"'
out_has '"blocks":'
want 0 "$tamis" run --input "$short" --output made --pattern sliding # no sequence is longer than its window
same plain/output.npy made/output.npy
want 0 "$tamis" run --input "$short" --output made --pattern none
out_lacks pattern
same plain/output.npy made/output.npy

# ---- the pattern of a store's spec
{
    sed 's/^name: .*/name: patterned/' "$source_dir/tests/gpu/specs/portable_d64.yaml"
    echo 'pattern: {kind: topk_blocks, blocks: 2}'
} >patterned.yaml
want 0 "$tamis" gen patterned.yaml -o patterned.tamis --no-compile --arch sm_80 -q
mkdir patterned
cp "$short"/[qkv].npy patterned
want 0 "$tamis" run --store patterned.tamis --input patterned --output made --device cpu
out_has 'pattern: topk_blocks, blocks 2'
want 0 "$tamis" run --store patterned.tamis --input patterned --output made --device cpu --pattern none
out_lacks 'pattern:'

# ---- wrong arguments
want 2 "$tamis" run --input bare --output o --coverage 0.1 --ratio 0.5
err_has 'one policy'
want 2 "$tamis" run --input bare --output o --coverage nan
want 2 "$tamis" run --input bare --output o --coverage 1.5
want 2 "$tamis" run --input bare --output o --count -1
want 2 "$tamis" run --input bare --output o --window 0
want 2 "$tamis" run --input bare --output o --scope heads
want 2 "$tamis" run --input bare --output o --precision fp16
want 2 "$tamis" run --input bare --output o --device gpu
err_has 'cpu or cuda:N'
want 2 "$tamis" run --input bare --output o --device cuda:x
want 2 "$tamis" run --input bare --output o --device cuda:0
err_has '--store'
want 2 "$tamis" run --input bare --output o --spec x
want 2 "$tamis" run --input bare --output o --count 10 --pool 4
err_has 'odd'
want 2 "$tamis" run --input bare --output o --coverage 1
want 2 "$tamis" run --input bare --output o --ratio 0
absent o

cp -R "$short" itself
ln -s itself alias
want 2 "$tamis" run --input itself --output ./alias/
err_has '--output: is the case itself'
same itself/output.npy "$short/output.npy"
same itself/kept.npy "$short/kept.npy"

# ---- input that is wrong: exit 1, its file by name, and nothing written
broken() { # broken FILE MESSAGE, of the folder broken
    want 1 "$tamis" run --input broken --output o
    err_has "$1"
    err_has "$2"
    out_empty
    absent o
    want 1 "$tamis" verify broken
    rm -rf broken
    cp -R "$short" broken
}
want 1 "$tamis" run --input absent --output o
err_has 'absent/q.npy'
cp -R "$short" broken
rm broken/k.npy
broken k.npy ''
head -c 1000 "$short/v.npy" >broken/v.npy
broken v.npy ''
cp "$short/kept.npy" broken/q.npy
broken q.npy ''
cp "$reference/gqa_d128/k.npy" broken/k.npy
broken k.npy 'would be right'
cp "$short/output.npy" broken/q.npy
broken q.npy 'is float32, uint16'
sed -i 's/^window:.*/window: 0x40/' broken/case.yaml
broken case.yaml: 'is "0x40", an integer'
echo 'window: 64' >>broken/case.yaml
broken case.yaml: 'window is given twice'
sed -i 's/^coverage:/coverge:/' broken/case.yaml
broken case.yaml: 'unknown key "coverge", did you mean "coverage"?'
sed -i 's/seq_len: 1024/seq_len: 1025/' broken/case.yaml
broken case.yaml:5: '1024 as in the arrays'
echo 'ratio: 0.5' >>broken/case.yaml
broken case.yaml: 'a second policy'
sed -i 's/pool: 5/pool: 4/' broken/case.yaml
broken pool ''
echo 'scope: heads' >>broken/case.yaml
broken case.yaml: 'no scope'
sed -i 's/dtype: bf16/dtype: fp16/' broken/case.yaml
broken case.yaml: 'bf16 as in the arrays'

# A reference that is wrong or lies.
refused() {
    want 1 "$tamis" verify broken
    err_has "$1"
    rm -rf broken
    cp -R "$short" broken
}
rm broken/score.npy
refused score.npy
cp "$reference/gqa_d128/kept.npy" broken/kept.npy
refused kept.npy
cp "$reference/mha_d64_ragged/indices.npy" broken/indices.npy
refused indices.npy

# One that differs: exit 6, and the other folders are verified too.
mkdir differs
cp "$short"/* differs
sed -i 's/coverage: 0.1/coverage: 0.2/' differs/case.yaml
want 6 "$tamis" verify differs "$short"
out_has 'NOT EQUAL'
[ "$(grep -c ' equal$' out)" -eq 1 ] || fail "the good folder was not verified"
err_has 'tokens kept, not'
cp "$short/case.yaml" differs/case.yaml
cp "$short/output.npy" differs/output.npy
printf '\177' | dd of=differs/output.npy bs=1 seek=200003 conv=notrunc 2>/dev/null
want 6 "$tamis" verify differs --json
json_ok verify
out_has '"equal":false'
want 1 "$tamis" verify "$short" absent
out_has ' equal'

# ---- results that cannot be written: a message, and no half file
echo text >file
want 1 "$tamis" run --input "$short" --output file --no-steps
want 1 "$tamis" run --input "$short" --output absent/folder --no-steps
(
    trap '' XFSZ
    # shellcheck disable=SC3045 # every sh has ulimit -f
    ulimit -f 64
    "$tamis" run --input "$short" --output limited --no-steps
) >out 2>err
code=$?
[ $code -eq 1 ] || fail "exit code $code where output.npy does not fit"
err_has output.npy
[ -z "$(ls limited)" ] || fail "part of a file was left"

# ---- devices
want 4 env TAMIS_LIBCUDA=/nonexistent/libcuda.so.1 "$tamis" run --input "$short" --output o --store small.tamis --device cuda:0
absent o
want 4 env TAMIS_LIBCUDA=/nonexistent/libcuda.so.1 "$tamis" verify "$short" --store small.tamis --device cuda
if [ -n "${TAMIS_FAKE_CUDA:-}" ]; then
    export TAMIS_LIBCUDA="$TAMIS_FAKE_CUDA" TAMIS_LIBNVRTC="$TAMIS_FAKE_CUDA" FAKE_CUDA_CC=8.0
    # Its kernels do nothing: outputs keep their poison, which neither command takes for a result.
    want 6 "$tamis" verify "$short" --store small.tamis --device cuda:0
    out_has 'NOT EQUAL'
    want 6 "$tamis" verify "$short" --store small.tamis
    err_has 'cuda:0: 0 cases equal, 1 not'
    want 6 "$tamis" run --input "$short" --output o --store small.tamis --device cuda:0
    absent o
    want 4 "$tamis" run --input "$short" --output o --store small.tamis --device cuda:1
    err_has 'no GPU 1'
    want 4 env FAKE_CUDA_CC=7.5 "$tamis" run --input "$short" --output o --store small.tamis --device cuda:0
    want 2 "$tamis" run --input "$short" --output o --store small.tamis --device cuda:0 --precision fp64
    want 1 "$tamis" run --input "$reference/gqa_d128" --output o --store small.tamis --device cuda:0
    err_has 'head_dim 128'
    want 1 env FAKE_CUDA_FAIL=cuMemAlloc_v2:1:2 "$tamis" run --input "$short" --output o --store small.tamis --device cuda:0
    err_has 'out of device memory'
    want 1 env FAKE_CUDA_FAIL=cuEventRecord:1:700 "$tamis" run --input "$short" --output o --store small.tamis --device cuda:0
    absent o
else
    skip "a GPU that computes nothing: no TAMIS_FAKE_CUDA"
fi
finish

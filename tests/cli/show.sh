#!/bin/sh
# show.sh: tamis show, of specs and of stores.
# shellcheck source=tests/cli/lib/common.sh
. "$(dirname "$0")/lib/common.sh"

want 0 "$tamis" show llama-3.1-8b --arch sm_80
err_empty
for part in VARIANT WHY compress_d128 attend_bf16_d128 attend_fp16_d128 score_sum; do out_has "$part"; done
out_lacks sm_90a
want 0 "$tamis" show llama-3.1-8b --arch sm_80 --json
json_ok kernel
out_has '"compiled":false'
variant=$(sed -n 's/.*"family":"compress","variant":"\([^"]*\)","arch":"sm_80","rank":0.*/\1/p' out | head -n 1)
[ -n "$variant" ] || fail "no default variant of compress"

# ---- the source of one: the first line is the command that shows it, and shows the same
want 0 "$tamis" show llama-3.1-8b --variant "$variant" --arch sm_80
err_empty
out_has "tamis show SPEC --variant $variant --arch sm_80"
cp out source.cu
made_by=$(sed -n 's/.*tamis show SPEC \(--variant .* --arch sm_80\).*/\1/p' source.cu | head -n 1)
# shellcheck disable=SC2086 # words of a command
want 0 "$tamis" show llama-3.1-8b $made_by
same out source.cu
want 0 "$tamis" show llama-3.1-8b --variant "$variant" --arch sm_80 --source
same out source.cu
grep -q '^#line' source.cu && fail "#line in what is shown"
want 0 "$tamis" show llama-3.1-8b --variant "$variant" --arch sm_80 --json
json_ok source
want 0 "$tamis" show llama-3.1-8b --variant "$variant" --arch sm_80 --list
out_has VARIANT
[ "$(wc -l <out)" -eq 2 ] || fail "more than one kernel of $variant"

# ---- a store shows what it holds, to the byte
want 0 "$tamis" gen llama-3.1-8b qwen3-8b -o s.tamis --no-compile --arch sm_80,sm_90a
want 0 "$tamis" show s.tamis --spec llama-3.1-8b --variant "$variant" --arch sm_80
same out source.cu
want 0 "$tamis" show s.tamis
out_has sm_90a
want 0 "$tamis" show s.tamis --arch sm_80 --spec qwen3-8b --json
json_ok kernel
out_lacks '"spec":"llama-3.1-8b"'

# ---- which one is meant
want 2 "$tamis" show llama-3.1-8b --variant "$variant"
err_has '--arch'
# Two specs that share a kernel share its text; where an older template made one of them, it must be said which.
want 0 "$tamis" show s.tamis --variant "$variant" --arch sm_80
same out source.cu
mkdir data data/runtime
cp -R "$source_dir/templates" "$source_dir/specs" data
for header in kernel drift block pattern; do cp "$source_dir/runtime/${header}_args.h" data/runtime; done
echo '// another comment' >>data/templates/compress.cu.lua
want 0 env TAMIS_DATA_DIR=data "$tamis" gen qwen3-8b -o s.tamis --no-compile --arch sm_80
want 2 "$tamis" show s.tamis --variant "$variant" --arch sm_80
err_has '--spec'
want 0 "$tamis" show s.tamis --variant "$variant" --arch sm_80 --spec qwen3-8b
out_has '// another comment'
want 0 "$tamis" show s.tamis --variant "$variant" --arch sm_80 --spec llama-3.1-8b
same out source.cu
want 1 "$tamis" show llama-3.1-8b --arch sm_80 --variant "${variant}x"
err_has "did you mean \"$variant\"?"
out_empty
want 1 "$tamis" show s.tamis --arch sm_120
err_has 'no variant for sm_120: there are: '
err_has 'sm_80'
want 1 "$tamis" show s.tamis --spec absent
err_has 'no variants of spec absent: there are: '
want 1 "$tamis" show s.tamis --spec qwen3-8
err_has 'no variants of spec qwen3-8: did you mean "qwen3-8b"?'
for where in llama-3.1-8b s.tamis; do
    want 2 "$tamis" show $where --arch sm_81
    err_has '"sm_81" is none of sm_80, sm_86'
done
for option in --all --compile; do
    want 2 "$tamis" show s.tamis $option
    err_has "$option is for a spec, and s.tamis is a store"
done
want 1 "$tamis" show absent
err_has 'no spec absent'

# ---- what cannot be built, with the reason
odd='{block_m: 24, block_n: 64, stages: 2, warps: 8, q_in_registers: 0, rescale_threshold: 8, lazy_max: 0, tile_barriers: 0}'
sed "s/^tiles:.*/tiles: [tiles\\/portable.yaml, {family: attend, params: $odd}]/" \
    "$source_dir/specs/llama-3.1-8b.yaml" >odd.yaml
want 0 "$tamis" show odd.yaml --arch sm_80
out_lacks rejected
want 0 "$tamis" show odd.yaml --arch sm_80 --all
rejected=$(sed -n 's/^rejected \(attend_bf16[^ ]*bm24[^ ]*\) for sm_80: .*block_m must be.*/\1/p' out)
[ -n "$rejected" ] || fail "no rejection with its reason"
want 1 "$tamis" show odd.yaml --arch sm_80 --variant "$rejected"
err_has 'block_m must be'
want 0 "$tamis" show odd.yaml --arch sm_80 --all --json
json_ok rejection

# ---- resources, where they are known
if can_compile; then
    want 0 "$tamis" show llama-3.1-8b --arch sm_80 --variant "$variant" --list --compile
    grep -q "$variant.* - " out && fail "no registers after --compile"
    want 0 "$tamis" show llama-3.1-8b --arch sm_80 --variant "$variant" --list --compile --json
    out_has '"compiled":true,"registers":'
    want 5 env TAMIS_LIBNVRTC=/nonexistent/libnvrtc.so "$tamis" show llama-3.1-8b --arch sm_80 --list --compile
else
    skip "registers: no NVRTC"
fi
finish

#!/bin/sh
# export_c.sh: tamis export --c: the sources compile as C and as C++ without a warning, are the same each time, and load and
# launch every stage, and those of a pattern in their order, through a libcuda that is none.
# shellcheck source=tests/cli/lib/common.sh
. "$(dirname "$0")/lib/common.sh"

if [ -z "${TAMIS_FAKE_CUDA:-}" ]; then
    skip "all: no TAMIS_FAKE_CUDA"
    finish
    exit 0
fi
warnings='-Wall -Wextra -Wpedantic -Wshadow -Wcast-qual -Wconversion -Werror'
c11="${CC:-cc} -std=c11 $warnings -Wstrict-prototypes -Wmissing-prototypes"
cpp17="${CXX:-c++} -std=c++17 -x c++ $warnings"
# A libcuda with sanitizers wants a host that has them too.
sanitize=$(printf %s "${TAMIS_SANITIZE:-}" | tr + ,)
[ -z "$sanitize" ] || c11="$c11 -fsanitize=$sanitize" cpp17="$cpp17 -fsanitize=$sanitize"
ln -s "$TAMIS_FAKE_CUDA" libcuda.so.1
gen() { want 0 env TAMIS_LIBNVRTC="$TAMIS_FAKE_CUDA" "$tamis" gen "$@"; }

gen llama-3.1-8b-flexprefill -o s.tamis --arch sm_80,sm_90a
want 0 "$tamis" export --c s.tamis -o k --json
json_ok export
out_has '"c":true,"specs":1'
want 0 "$tamis" export --c s.tamis -o k2
diff -r k k2 >/dev/null || fail "two exports differ"
for file in kernel_args.h block_args.h map_args.h pattern_args.h pattern_stages.inc; do
    same "$source_dir/runtime/$file" "k/$file"
done
want 0 "$tamis" export s.tamis -o b.tamis
want 0 "$tamis" export --c b.tamis -o k3
diff -r k k3 >/dev/null || fail "the export of a bundle of the store differs from the store's"
if grep -rq "$work" k; then fail "a path of this machine is in the sources"; fi

# build FOLDER COMPILER: the host with a folder's sources.
build() {
    folder=$1
    # shellcheck disable=SC2086 # words
    want 0 $2 -I"$folder" -isystem "$source_dir/runtime" -isystem "$source_dir/tests" -o host \
        "$source_dir/tests/cli/lib/launch_one.c" "$folder"/*.c -ldl
    err_empty
}
launch() { want 0 env LD_LIBRARY_PATH="$work" ./host "$@"; }

build k "$c11"
launch 0 128 8 0 sm_80
for stage in score_stats score_merge score_sum select_pool select_budget select_tokens compress attend decompress; do
    out_has "$stage tamis_"
done
for stage in blocks_bits blocks_rows blocks_order attend_blocks; do out_has "$stage tamis_"; done
lines='pattern_stats pattern_merge pattern_lines pattern_heads'
out_has 'sliding: pattern_sliding'
out_has 'llama-3.1-8b-flexprefill: names 4, 0.94999999999999996'
out_has "vertical_slash: $lines pattern_lists"
out_has "flexprefill: pattern_means $lines pattern_products pattern_soften pattern_cut pattern_lists"
out_has 'xattention: pattern_xattn pattern_choose'
out_has 'topk_blocks: pattern_means pattern_products pattern_choose'
out_lacks _tma
out_lacks drift # is of no plan
out_lacks sm_90a
# The defaults are what is loaded of all variants.
grep -v : out | cut -d' ' -f2 | sort >loaded
want 0 "$tamis" show s.tamis --arch sm_80 --json
grep '"rank":0' out | grep -v -e fp16 -e '"stage":"drift"' | sed 's/.*"symbol":"\([^"]*\)".*/\1/' | sort -u >wanted
[ -s wanted ] || fail "no defaults are listed"
same loaded wanted
# On Hopper the persistent kernel attends; on a GPU between two architectures the lower one runs.
launch 0 128 9 0 sm_90a
out_has 'attend_tma tamis_attend_wgmma_bf16'
out_has 'attend_blocks_tma tamis_attend_blocks_wgmma_bf16'
out_has 'xattention: pattern_xattn_tma pattern_choose'
out_lacks sm_80
build k "$cpp17"
launch 1 128 8 9 sm_80
out_has 'attend tamis_attend_fp16'

# Attention with an output map is there beside attention without, where a spec asks for it.
out_lacks attend_map
sed 's/^name: .*/name: mapped/' "$source_dir/tests/gpu/specs/output_map_d128.yaml" >mapped.yaml
gen mapped.yaml -o mapped.tamis --arch sm_80,sm_90a --defaults-only
want 0 "$tamis" export --c mapped.tamis -o mapped
build mapped "$c11"
launch 0 128 8 0 sm_80
out_has 'attend tamis_attend_bf16'
out_has 'attend_map tamis_attend_bf16'
build mapped "$cpp17"
launch 0 128 9 0 sm_90a
out_has 'attend_map_tma tamis_attend_wgmma_bf16'

# A driver that lacks a function, as one before CUDA 12 does, is none, and is let go of.
mkdir old
echo 'int cuLibraryLoadData(void); int cuLibraryLoadData(void) { return 0; }' >old/cuda.c
# shellcheck disable=SC2086
want 0 $c11 -shared -fPIC -o old/libcuda.so.1 old/cuda.c
# shellcheck disable=SC2086
want 0 $c11 -Ik -o old/host "$source_dir/tests/cli/lib/launch_none.c" k/*.c -ldl
want 0 env LD_LIBRARY_PATH="$work/old" old/host
rm old/libcuda.so.1
want 0 env LD_LIBRARY_PATH="$work/old" old/host

# A store without kernels for patterns makes none, and says so.
gen llama-3.1-8b -o plain.tamis --arch sm_80 --defaults-only
want 0 "$tamis" export --c plain.tamis -o plain
build plain "$c11"
launch 0 128 8 0 sm_80
out_lacks names
out_lacks pattern
out_lacks blocks

# ---- another prefix: nothing of the first one is left
gen llama-3.1-8b qwen3-8b -o two.tamis --arch sm_80 --defaults-only
want 0 "$tamis" export --c two.tamis -o mine --prefix mine
present mine/mine.h
if grep -rqi tamis_kernels mine; then fail "the old prefix is left"; fi
want 0 grep -q 'ifndef MINE_H' mine/mine.h
for file in mine/*.c; do
    # shellcheck disable=SC2086
    want 0 $c11 -c "$file" -o mine.o
    # shellcheck disable=SC2086
    want 0 $cpp17 -c "$file" -o mine.o
done
# Two models share a kernel's cubin.
[ "$(grep -c '^    {' mine/mine_table.c)" -gt "$(grep -c '^extern' mine/mine_table.c)" ] || fail "cubins are not shared"

# ---- what keeps it from being made, and that it leaves nothing behind
want 1 "$tamis" export --c s.tamis -o k
err_has 'is there already'
mkdir empty
want 0 "$tamis" export --c s.tamis -o empty/ --arch sm_80 --defaults-only
present empty/tamis_kernels.c
want 0 "$tamis" gen llama-3.1-8b -o sources.tamis --arch sm_80 --defaults-only --no-compile
want 5 "$tamis" export --c sources.tamis -o none
err_has 'are not compiled'
absent none
mkdir data
cp -r "$source_dir/templates" "$source_dir/runtime" "$source_dir/specs" data/
rm data/templates/launcher/tamis_kernels.c
want 1 env TAMIS_DATA_DIR="$work/data" "$tamis" export --c s.tamis -o none
err_has 'tamis_kernels.c'
absent none
if (trap '' XFSZ && ulimit -f 8) 2>/dev/null; then
    limited() { (trap '' XFSZ && ulimit -f 8 && "$@"); }
    want 1 limited "$tamis" export --c s.tamis -o none # the table is larger
    err_has 'cannot write'
    absent none
fi
for left in none.??????; do [ ! -e "$left" ] || fail "$left is left behind"; done

# ---- cubins of a real compiler, which are arrays of a real size: no other lines for sanitizers to look at
if [ -n "$sanitize" ]; then
    skip "cubins of NVRTC: the same lines as those of fiction"
elif can_compile; then
    want 0 "$tamis" gen llama-3.1-8b -o real.tamis --arch sm_80 --defaults-only
    want 0 "$tamis" export --c real.tamis -o real --defaults-only
    build real "$c11"
    launch 0 128 8 0 sm_80
    want 0 "$tamis" show real.tamis --json
else
    skip "cubins of NVRTC: there is none"
fi
finish

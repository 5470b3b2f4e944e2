#!/bin/sh
# gen.sh: tamis gen: what enters the store, that a second time compiles nothing, and all that can go wrong on the way.
# shellcheck source=tests/cli/lib/common.sh
. "$(dirname "$0")/lib/common.sh"

# A copy of the data folder, to break.
copy_data() {
    rm -rf data
    mkdir data data/runtime
    cp -R "$source_dir/templates" "$source_dir/specs" data/
    for header in kernel drift block pattern; do cp "$source_dir/runtime/${header}_args.h" data/runtime/; done
}

# All sources of a store, with their keys, in one file. Under sanitizers every eighth: the tool does the same for each.
dump() {
    every=1
    [ -z "${TAMIS_SANITIZE:-}" ] || every=8
    "$tamis" show "$1" --json 2>/dev/null | sed -n 's/.*"variant":"\([^"]*\)".*"arch":"\([^"]*\)".*/\1 \2/p' | sort -u |
        awk -v every=$every 'NR % every == 0' |
        while read -r variant arch; do "$tamis" show "$1" --variant "$variant" --arch "$arch" --json; done >"$2"
    [ -s "$2" ] || fail "nothing to dump of $1"
}

# ---- sources alone: no compiler is needed
want 0 "$tamis" gen llama-3.1-8b -o sources.tamis --no-compile
err_has 'not compiled, as asked'
want 0 "$tamis" gen llama-3.1-8b -o again.tamis --no-compile
dump sources.tamis first
dump again.tamis second
same first second
want 0 "$tamis" gen llama-3.1-8b -o sources.tamis --no-compile
dump sources.tamis second
same first second
want 0 env TAMIS_LIBNVRTC=/nonexistent/libnvrtc.so "$tamis" gen llama-3.1-8b -o none.tamis
err_has 'warning: '
err_has 'holds the source alone'
dump none.tamis second
same first second
want 0 env TAMIS_LIBNVRTC=/nonexistent/libnvrtc.so "$tamis" gen llama-3.1-8b -o none.tamis --json -q
json_ok gen
out_has '"compiled":0'

# Variants that a spec no longer has go; those of architectures that were not asked for stay.
count() { "$tamis" cache ls "$1" --json 2>/dev/null | grep -c "\"kind\":\"variant\".*\"arch\":\"$2\""; }
all=$(count sources.tamis sm_80)
want 0 "$tamis" gen llama-3.1-8b -o sources.tamis --no-compile --defaults-only --arch sm_80,sm_80
[ "$(count sources.tamis sm_80)" -lt "$all" ] || fail "stale variants of sm_80 stayed"
[ "$(count sources.tamis sm_86)" -gt "$(count sources.tamis sm_80)" ] || fail "variants of sm_86 went"
sed 's/^archs:.*/archs: [sm_80]/' "$source_dir/specs/llama-3.1-8b.yaml" >less.yaml
want 0 "$tamis" gen less.yaml -o sources.tamis --no-compile
[ "$(count sources.tamis sm_86)" -eq 0 ] || fail "variants of an architecture that the spec dropped stayed"

# ---- nothing is touched where a spec or template is wrong
sed 's/window: 128/window: 0/' "$source_dir/specs/llama-3.1-8b.yaml" >bad.yaml
want 3 "$tamis" gen qwen3-8b bad.yaml -o untouched.tamis
err_has 'bad.yaml:'
absent untouched.tamis
want 1 "$tamis" gen absent.yaml -o untouched.tamis
absent untouched.tamis
want 3 "$tamis" gen qwen3-8b qwen3-8b -o untouched.tamis
err_has 'given before'
copy_data
echo '$ local x = p.no_such_parameter' >>data/templates/compress.cu.lua
line=$(wc -l <data/templates/compress.cu.lua)
want 3 env TAMIS_DATA_DIR=data "$tamis" gen llama-3.1-8b -o untouched.tamis --no-compile
err_has "compress.cu.lua:$line: "
absent untouched.tamis
want 1 env TAMIS_DATA_DIR="$work/nowhere" "$tamis" gen llama-3.1-8b -o untouched.tamis
err_has 'TAMIS_DATA_DIR'

# ---- places that cannot be written
want 1 "$tamis" gen llama-3.1-8b -o "$work" --no-compile
want 1 "$tamis" gen llama-3.1-8b -o absent/folder/s.tamis --no-compile
echo 'not a store' >text.tamis
want 1 "$tamis" gen llama-3.1-8b -o text.tamis --no-compile
[ "$(cat text.tamis)" = 'not a store' ] || fail "a file that is no store was overwritten"

# A full disk, by a limit on the size of files (blocks of 512 bytes).
(
    trap '' XFSZ
    # shellcheck disable=SC3045 # every sh has ulimit -f
    ulimit -f 128
    "$tamis" gen llama-3.1-8b -o full.tamis --no-compile
) >out 2>err
code=$?
[ $code -eq 1 ] || fail "exit code $code on a full disk"
err_has 'error: '
want 0 "$tamis" gen llama-3.1-8b -o full.tamis --no-compile
want 0 "$tamis" cache verify full.tamis

# A folder that cannot be written, as a user whom it binds.
cp sources.tamis readonly.tamis
as_user=
if [ "$(id -u)" -ne 0 ]; then
    as_user='env'
elif command -v setpriv >/dev/null 2>&1 && setpriv --reuid=65534 --clear-groups true 2>/dev/null; then
    as_user='setpriv --reuid=65534 --regid=65534 --clear-groups'
fi
cp "$tamis" tool
copy_data
chmod 755 "$work" tool && chmod -R a+rX data
# shellcheck disable=SC2086
if [ -n "$as_user" ] && $as_user env TAMIS_DATA_DIR="$work/data" ./tool --version >/dev/null 2>&1; then
    mkdir closed && mv readonly.tamis closed/
    chmod 444 closed/readonly.tamis && chmod 555 closed
    want 1 $as_user env TAMIS_DATA_DIR="$work/data" ./tool gen llama-3.1-8b -o closed/new.tamis --no-compile
    absent closed/new.tamis
    want 1 $as_user env TAMIS_DATA_DIR="$work/data" ./tool gen llama-3.1-8b -o closed/readonly.tamis --no-compile
    err_has 'closed/readonly.tamis'
    want 0 $as_user env TAMIS_DATA_DIR="$work/data" ./tool show closed/readonly.tamis
    want 0 $as_user env TAMIS_DATA_DIR="$work/data" ./tool cache verify closed/readonly.tamis
    want 1 $as_user env TAMIS_DATA_DIR="$work/data" ./tool cache gc closed/readonly.tamis
    [ "$(find closed -type f | wc -l)" -eq 1 ] || fail "something was written beside a read-only store"
else
    skip "a read-only folder: no user whom it binds"
fi

# ---- compiling
if ! can_compile; then
    skip "compiling: no NVRTC"
    finish
    exit 0
fi
sed 's/^dtypes:.*/dtypes: bf16/' "$source_dir/specs/llama-3.1-8b.yaml" >one.yaml
want 0 "$tamis" gen one.yaml -o l.tamis --arch sm_80 --defaults-only -j 2 --strict
err_has 'compiling '
err_has '[1/'
out_lacks 'compiling'
for part in VARIANT REGISTERS SHARED SPILL score_stats select_budget compress attend decompress; do out_has "$part"; done
grep -q ' - ' out && fail "a kernel without resources"
cp out table
want 0 "$tamis" cache ls l.tamis
cp out before
want 0 "$tamis" gen one.yaml -o l.tamis --arch sm_80 --defaults-only --strict
err_has 'nothing to compile'
same out table
want 0 "$tamis" cache ls l.tamis
same out before
want 0 "$tamis" gen one.yaml -o l.tamis --arch sm_80 --defaults-only -q
err_empty
same out table
want 0 "$tamis" gen one.yaml -o l.tamis --arch sm_80 --defaults-only --json -q
err_empty
json_ok kernel
json_ok gen
out_has '"compiled":0,"failed":0,"left":0,"default_kernels_spilling":0'
out_lacks 'VARIANT'

# A compile error names the template's own line; the others compile and are kept.
copy_data
echo 'int broken = undeclared_thing;' >>data/templates/compress.cu.lua
line=$(wc -l <data/templates/compress.cu.lua)
want 5 env TAMIS_DATA_DIR=data "$tamis" gen one.yaml -o broken.tamis --arch sm_80 --defaults-only
err_has "compress.cu.lua:$line"
err_has 'undeclared_thing'
want 5 env TAMIS_DATA_DIR=data "$tamis" gen one.yaml -o broken.tamis --arch sm_80 --defaults-only --json
json_ok error
out_has 'undeclared_thing'
err_has '0 compiled, 1 failed'
want 0 "$tamis" gen one.yaml -o broken.tamis --arch sm_80 --defaults-only
err_has 'compiling 1 of 6'

# A default kernel that spills is a warning, with --strict a failure.
copy_data
sed -i '/extern "C"/s/__launch_bounds__(kThreads)/__launch_bounds__(kThreads, 4)/' data/templates/attend.cu.lua
grep -q 'kThreads, 4' data/templates/attend.cu.lua || fail "the attend template has changed: spills cannot be provoked so"
cp l.tamis spill.tamis # the other kernels are there
want 0 env TAMIS_DATA_DIR=data "$tamis" gen one.yaml -o spill.tamis --arch sm_80 --defaults-only
err_has 'compiling 1 of 6'
err_has ' spills '
want 5 env TAMIS_DATA_DIR=data "$tamis" gen one.yaml -o spill.tamis --arch sm_80 --defaults-only --strict
err_has '--strict'

# A candidate as the default: alone with --defaults-only, before the others without.
candidate=attend_bf16_d128_bm128_bn32_lm1_qir0_rt8_s2_tb1_w4
other=attend_bf16_d128_bm128_bn48_qir0_rt8_s1_tb0_w4
want 0 "$tamis" gen llama-3.1-8b -o tried.tamis --arch sm_80 --no-compile --defaults-only --default "$candidate"
want 0 "$tamis" show tried.tamis
out_has "$candidate"
out_lacks "$other"
want 0 "$tamis" gen llama-3.1-8b -o tried.tamis --arch sm_80 --no-compile --default "$candidate"
want 0 "$tamis" show tried.tamis
first=$(grep -o -e "$candidate" -e "$other" out | head -n 1)
[ "$first" = "$candidate" ] || fail "$first stands before $candidate"
checks=$((checks + 1))
want 2 "$tamis" gen llama-3.1-8b -o tried.tamis --no-compile --default attend_of_no_spec
err_has 'no variant is named attend_of_no_spec'

# What is not compiled cannot be found sound.
want 5 "$tamis" gen one.yaml -o uncompiled.tamis --arch sm_80 --defaults-only --no-compile --strict
err_has 'are not compiled'

# So is wgmma that the compiler serialises, here for an accumulator that is read before the wait. The store remembers it.
copy_data
cat >early.cu <<'EOF'
__device__ __forceinline__ void read_early(float *out, unsigned long long tile)
{
    float a = 0, b = 0, c = 0, d = 0;
    for (int i = 0; i < 4; i++) {
        asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
        asm volatile("wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%0, %1, %2, %3}, %4, %5, 1, 1, 1, 0, 0;"
                     : "+f"(a), "+f"(b), "+f"(c), "+f"(d) : "l"(tile), "l"(tile + i));
        out[i] += a;
        b *= c;
        asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
    }
    asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
    out[threadIdx.x] = a + b + c + d;
}
EOF
sed -i -e '/#include "rows.cuh"/r early.cu' \
    -e 's/^    if (first >= kept.*/    if (kept < 0) read_early((float *)args.tensors[0].compact.data, args.seq_len);\n&/' \
    data/templates/compress.cu.lua
grep -q '0) read_early(' data/templates/compress.cu.lua || fail "the compress template has changed: wgmma cannot be put there"
sed 's/head_dim: 128/head_dim: 64/' one.yaml >small.yaml # whose other kernels compile fast
want 0 env TAMIS_DATA_DIR=data "$tamis" gen small.yaml -o early.tamis --arch sm_90a --defaults-only
err_has 'serialised its wgmma'
want 5 env TAMIS_DATA_DIR=data "$tamis" gen small.yaml -o early.tamis --arch sm_90a --defaults-only --strict
err_has 'nothing to compile'
err_has '0 default kernels spill, 1 variants have serialised wgmma'
want 0 "$tamis" show early.tamis
err_has 'tamis_compress_d64'
err_has 'serialised its wgmma'
want 0 "$tamis" show early.tamis --json
json_ok kernel
[ "$(grep -c '"serialized_wgmma":true' out)" -eq 1 ] || fail "not one kernel with serialised wgmma"

# Eight at once fill one cold store: eight successes, one cubin a variant. By a compiler of fiction, which takes its time and
# no core's.
if [ -n "${TAMIS_FAKE_CUDA:-}" ]; then
    # As many threads are told of as there are: no more than kernels.
    for jobs in 1 4 1000; do
        want 0 env TAMIS_LIBNVRTC="$TAMIS_FAKE_CUDA" "$tamis" gen llama-3.1-8b -o "jobs$jobs.tamis" --arch sm_80 \
            --defaults-only -j $jobs
        count=$(sed -n 's/.*compiling \([0-9]*\) of .* on [0-9]* threads.*/\1/p' err)
        [ "$count" -lt 64 ] || fail "$count default kernels of one architecture"
        err_has "on $((jobs < count ? jobs : count)) threads"
    done
    crowded() { # MILLISECONDS STORE
        env TAMIS_LIBNVRTC="$TAMIS_FAKE_CUDA" FAKE_NVRTC_MS="$1" \
            "$tamis" gen llama-3.1-8b -o "$2" --arch sm_80 --defaults-only -j 1
    }
    compiled() { cat "$@" | sed -n 's/.* \([0-9]*\) compiled, .*/\1/p' | awk '{ sum += $1 } END { print sum }'; }
    want 0 crowded 0 alone.tamis
    cp out table
    once=$(compiled err)
    for number in 1 2 3 4 5 6 7 8; do
        {
            crowded 300 crowd.tamis >"crowd.$number" 2>"crowd_err.$number"
            echo $? >"crowd_code.$number"
        } &
    done
    wait
    for number in 1 2 3 4 5 6 7 8; do
        [ "$(cat "crowd_code.$number")" = 0 ] || fail "one of eight at once: $(cat "crowd_err.$number")"
        same "crowd.$number" table
    done
    [ "$(compiled crowd_err.?)" -gt "$once" ] || fail "of eight at once only one compiled"
    want 0 "$tamis" cache verify crowd.tamis
    want 0 "$tamis" cache ls crowd.tamis -q --json
    sort out >crowd
    want 0 "$tamis" cache ls alone.tamis -q --json
    sort out >alone
    same crowd alone
else
    skip "eight at once: no TAMIS_FAKE_CUDA"
fi

# Ctrl-C: what runs is finished and kept.
"$tamis" gen llama-3.1-8b gemma-2-9b -o stopped.tamis -j 1 >out 2>err &
child=$!
tries=0
until grep -q '\[1/' err || [ $tries -gt 300 ]; do
    sleep 0.1
    tries=$((tries + 1))
done
kill -INT "$child"
wait "$child"
code=$?
command_line='an interrupted gen'
[ $code -eq 130 ] || fail "exit code $code after Ctrl-C"
err_has 'what was compiled is saved'
want 0 "$tamis" cache verify stopped.tamis
want 0 "$tamis" cache ls stopped.tamis
out_has 'cubin '
finish

#!/bin/sh
# tune.sh: tuning with a GPU of fiction: what is found and what plans make of it, planted hangs, faults and wrong numbers,
# budget, Ctrl-C, and kill -9 at random moments. TAMIS_TUNE_KILLS: how many of these; default 20.
# shellcheck source=tests/cli/lib/common.sh
. "$(dirname "$0")/lib/common.sh"

if [ -z "${TAMIS_FAKE_TUNE_WORKER:-}" ] || [ -z "${TAMIS_FAKE_CUDA:-}" ]; then
    skip "tuning: no TAMIS_FAKE_TUNE_WORKER"
    finish
    exit 0
fi
export TAMIS_TUNE_WORKER="$TAMIS_FAKE_TUNE_WORKER" TAMIS_LIBNVRTC="$TAMIS_FAKE_CUDA" TAMIS_DATA_DIR="$source_dir"
wide=attend_wgmma_bf16_d128_bm128_bn176
short='--lengths 8192,16384 --ratios 0.5'

# ---- from nothing to a tuned store
export FAKE_TUNE_LOG="$work/log" FAKE_TUNE_FAST=$wide
want 0 "$tamis" tune s.tamis --spec llama-3.1-8b --lengths 8192,16384 --ratios 0.5
err_has 'variants of llama-3.1-8b for sm_90a generated'
err_has 'GPU of fiction: llama-3.1-8b'
err_has 'in the geometric mean'
[ "$(grep -c '^attend, dense' out)" -eq 2 ] || fail "there are not two dense buckets"
[ "$(grep -c '^score' out)" -eq 2 ] || fail "the score is not timed once a length"
grep '^attend' out | grep -v $wide && fail "another variant than the fastest is chosen"
# The attention that is chosen writes the zero rows itself.
out_lacks decompress
if grep decompress log; then fail "what is never launched was timed"; fi
want 0 "$tamis" cache verify s.tamis
grep -q '^time' log || fail "nothing was timed"
# Numbers before times, for each variant and shape.
awk '{key = $2 $3 $4 $5 $6} $1 == "check" {seen[key]} $1 == "time" && !(key in seen) {exit 1}' log || fail "timed, not checked"
checks=$((checks + 1))

# ---- what is known is not timed again; more is
: >log
want 0 "$tamis" tune s.tamis --lengths 8192,16384 --ratios 0.5 --json
json_ok tune
json_ok tune_bucket
[ "$(grep -c '"type":"tune_bucket".*,"seconds":[0-9]' out)" -eq "$(grep -c '"type":"tune_bucket"' out)" ] || fail "no seconds"
tail -n 1 out | grep -q '"type":"tune",.*"gain":[0-9.]*,"seconds":[0-9]' || fail "the last line has no gain and seconds"
out_has '"known_before":true'
out_lacks '"known_before":false'
out_has "\"variant\":\"$wide"
[ ! -s log ] || fail "what is known was timed again"
want 0 "$tamis" tune s.tamis --lengths 16384,32768 --ratios 0.5 --quiet
err_empty
awk '$4 != 32768 {exit 1}' log || fail "another length than the new one was timed"
: >log
want 0 "$tamis" tune s.tamis --lengths 8192 --ratios 0.5 --rigor quick
[ ! -s log ] || fail "less rigor timed again what more had"
want 0 "$tamis" tune s.tamis --lengths 8192 --ratios 0.5 --rigor exhaustive
[ "$(grep -c '^check attend' log)" -ge 32 ] || fail "more rigor did not time all again"
: >log
want 0 "$tamis" tune s.tamis --lengths 8192 --ratios 0.5 --again --devices all
err_has 'GPU 1 is like one that was tuned'
[ -s log ] || fail "--again timed nothing"

# ---- of a spec that the store has, another GPU's variants are made from the store's text: specs/ has other words of that name
sed -e '/^archs:/d' -e 's/coverage: 0.005/coverage: 0.02/' "$source_dir/specs/llama-3.1-8b.yaml" >own.yaml
for name in llama-3.1-8b my-own; do
    sed "s/^name: .*/name: $name/" own.yaml >"own-$name.yaml"
    want 0 "$tamis" gen "own-$name.yaml" -o "own-$name.tamis" --no-compile --arch sm_80
    rm "own-$name.yaml"
    # shellcheck disable=SC2086 # words
    want 0 "$tamis" tune "own-$name.tamis" $short
    err_has "variants of $name for sm_90a generated"
    want 0 "$tamis" plan "own-$name.tamis" --arch sm_90a
    out_has 'selection: coverage 0.02,'
done

# ---- a new tile size costs itself, beside the default and the best
mkdir tiles
printf 'tiles:\n  - family: compress\n    params: {block_m: [64, 128], threads: 256}\n' >tiles/old.yaml
sed 's/128\]/128, 256]/' tiles/old.yaml >tiles/new.yaml
for version in old new; do
    sed -e "s|tiles:.*|tiles: [tiles/$version.yaml, tiles/sm_90a.yaml, tiles/portable.yaml]|" \
        -e 's/^name: .*/name: mine/' -e 's/^archs: .*/archs: sm_90a/' "$source_dir/specs/llama-3.1-8b.yaml" >my.yaml
    want 0 "$tamis" gen my.yaml -o m.tamis --no-compile
    : >log
    # shellcheck disable=SC2086 # words
    want 0 "$tamis" tune m.tamis $short
done
[ "$(grep '^check' log | cut -d' ' -f2 | sort -u)" = compress ] || fail "other families were timed for a new compress tile"
grep -q '^check compress compress_d128_bm256_t256' log || fail "the new tile was not timed"
[ "$(grep -c '^check' log)" -le 6 ] || fail "more than the new tile, the default and the best ran"

# ---- of a spec with a block pattern: attention on listed blocks too, at three densities, and all else as without one
: >log
want 0 "$tamis" gen llama-3.1-8b-flexprefill -o f.tamis --no-compile --arch sm_90a
FAKE_TUNE_FAST=attend_blocks_wgmma_bf16_d128_bn64 want 0 "$tamis" tune f.tamis --lengths 8192,16384 --ratios 0.5
for density in 50 25 10; do
    [ "$(grep -c "^attend_blocks, $density %" out)" -eq 2 ] || fail "there are not two buckets with $density % of the blocks"
    checks=$((checks + 1))
done
grep '^attend_blocks' out | grep -v ' attend_blocks_wgmma_bf16_d128_bn64' && fail "another variant than the fastest is chosen"
awk '$2 == "attend_blocks" && ($7 != 1 || $8 == 0 || $5 != 0) {exit 1}' log ||
    fail "attention on blocks was timed on other lists"
awk '$2 != "attend_blocks" && $7 != 0 && $8 != 0 {exit 1}' log || fail "another family was timed on lists"
# The makers of the spec's own pattern, and no others.
for family in pattern pattern_lines pattern_heads; do
    [ "$(grep -c "^$family, flexprefill " out)" -eq 2 ] || fail "there are not two buckets of $family"
    checks=$((checks + 1))
done
awk '$2 ~ /^pattern/ && ($7 != 4 || $8 != 0) {exit 1}' log || fail "makers were timed for another pattern"
out_lacks pattern_xattn
if grep -q '^check blocks ' log; then fail "what has one size was tuned"; fi
: >log
want 0 "$tamis" tune f.tamis --lengths 8192,16384 --ratios 0.5 --json
json_ok tune
json_ok tune_bucket
out_lacks '"known_before":false'
timed='"family":"attend_blocks","dtype":"bf16","seq_len":8192,"kept":8192,"dense":true,"density":0.25'
out_has "$timed"',"variant":"attend_blocks_wgmma'
out_has '"family":"pattern_lines","dtype":"bf16","seq_len":16384,"kept":16384,"dense":true,"pattern":"flexprefill","variant":"'
[ ! -s log ] || fail "what is known of lists was timed again"
: >log
# A host may take another pattern than the spec's.
want 0 "$tamis" tune f.tamis --lengths 8192 --ratios 0.5 --pattern xattention,stride=8
[ "$(grep -c '^pattern_xattn, xattention ' out)" -eq 1 ] || fail "there is no bucket of pattern_xattn"
out_lacks flexprefill
awk '$2 !~ /^pattern(_xattn)?$/ || $7 != 5 {exit 1}' log || fail "another pattern's makers were timed, or what was known"
: >log
want 0 "$tamis" tune f.tamis --lengths 8192 --ratios 0.5 --pattern none
out_lacks pattern
out_has 'attend_blocks, 25 %'
want 0 "$tamis" tune f.tamis --spec llama-3.1-8b --lengths 8192 --ratios 0.5
[ ! -s log ] || fail "a spec without patterns tunes kernels of them, or what was known"

# ---- plans
export TAMIS_LIBCUDA="$TAMIS_FAKE_CUDA"
want 0 "$tamis" plan s.tamis --device cuda:0 --ratio 0.5 --seq-len 16384 --explain
grep '^attend  *attend' out | grep "$wide" | grep -q 'timed for this shape; [0-9.]* times as fast' ||
    fail "the plan does not say why"
want 0 "$tamis" plan s.tamis --device cuda:0 --ratio 0.5 --seq-len 20000 --explain
grep '^attend  *attend' out | grep -q 'timed for the nearest shape (seq_len 16384, kept 8256)' ||
    fail "the nearest shape is another"
listed='^attend_blocks  *attend_blocks_wgmma_bf16_d128_bn64'
want 0 "$tamis" plan f.tamis --spec llama-3.1-8b-flexprefill --device cuda:0 --dense --seq-len 16384 --explain
grep "$listed" out | grep -q 'timed for this shape; [0-9.]* times as fast' ||
    fail "the plan does not say why it takes that attention"
out_has 'pattern: flexprefill, gamma 0.95'
for family in pattern pattern_lines pattern_heads; do
    grep "^$family  *$family" out | grep -q 'timed for this shape' || fail "the plan does not say why it takes that $family"
done
want 0 "$tamis" plan f.tamis --spec llama-3.1-8b-flexprefill --device cuda:0 --ratio 0.5 --seq-len 16384 --explain
grep "$listed" out | grep -q 'timed for the nearest shape (seq_len 8192, density 0.1)' ||
    fail "the rows kept have another bucket"
want 0 "$tamis" plan f.tamis --spec llama-3.1-8b-flexprefill --device cuda:0 --dense --seq-len 16384 --explain --json \
    --pattern topk_blocks,ratio=0.3
out_has '"timed_density":0.25'
json_ok plan
grep -q '"family":"pattern","name":"[a-z0-9_]*","chosen_as":"default"' out || fail "another pattern's makers go by this one's"
want 0 "$tamis" plan f.tamis --spec llama-3.1-8b-flexprefill --device cuda:0 --pattern none --explain
out_lacks attend_blocks
want 0 "$tamis" plan s.tamis --arch sm_90a --ratio 0.5 --seq-len 16384 --explain --json
out_has '"chosen_as":"timed on another GPU","timed_seq_len":16384'
unset TAMIS_LIBCUDA
want 0 "$tamis" export s.tamis -o bundle.tamis --sources-only --json
out_lacks '"timings":0'
want 0 "$tamis" merge bundle.tamis m.tamis -o both.tamis
want 0 "$tamis" cache ls both.tamis
[ "$(grep -c '^timing' out)" -gt 100 ] || fail "merge has lost timings"

# ---- a page of it: whole, and for itself
want 0 "$tamis" report s.tamis -o s.html
out_empty
[ "$(grep -c '<svg' s.html)" -eq 8 ] || fail "the report has $(grep -c '<svg' s.html) pictures, not 8"
[ "$(grep -c '<svg' s.html)" -eq "$(grep -c '</svg>' s.html)" ] || fail "a picture has no end"
for part in 'GPU of fiction' llama-3.1-8b '0.50 kept' 'What plans take' "$wide" '</html>'; do
    grep -qF "$part" s.html || fail "the report lacks $part"
done
if grep -o 'https*://[^"]*' s.html | grep -v '^http://www.w3.org/2000/svg$'; then fail "the report asks the network"; fi
if grep -q 'nan\|inf' s.html; then fail "the report has numbers that are none"; fi
sed -n '/<svg/,/<.svg>/p' s.html >pictures
if command -v xmllint >/dev/null 2>&1; then
    { echo '<all>'; cat pictures; echo '</all>'; } | xmllint --noout - || fail "the pictures are no XML"
fi
want 0 "$tamis" report s.tamis -o s.html --json
json_ok report
want 0 "$tamis" report f.tamis --spec llama-3.1-8b-flexprefill -o f.html
for part in 'Candidates of attend_blocks' 'Candidates of pattern_heads' '16K, 0.1 listed' '16K, flexprefill' \
    '<td>attend_blocks, 0.25 listed<td' '<td>pattern_lines, flexprefill<td'; do
    grep -qF "$part" f.html || fail "the report lacks $part"
done
# A spec's page has its own heads' times, in a store of two that share their kernels; and those of each dtype.
want 0 "$tamis" gen llama-3.1-8b llama-3.1-70b -o pair.tamis --no-compile --arch sm_90a
for spec in llama-3.1-8b llama-3.1-70b; do
    # shellcheck disable=SC2086 # words
    want 0 "$tamis" tune pair.tamis --spec $spec $short
done
# shellcheck disable=SC2086 # words
want 0 "$tamis" tune pair.tamis --spec llama-3.1-8b $short --dtypes fp16
want 0 "$tamis" report pair.tamis --spec llama-3.1-70b -o pair.html
[ "$(grep -c '^<h2>' pair.html)" -eq 1 ] || fail "the page has another GPU than the one that tuned the spec"
[ "$(grep -c '<td>attend, dense<td class="n">8192<' pair.html)" -eq 1 ] || fail "the page has another spec's times"
want 0 "$tamis" report pair.tamis --spec llama-3.1-8b -o pair.html
[ "$(grep -c '<td>attend, dense<td class="n">8192<' pair.html)" -eq 2 ] || fail "the page lacks a dtype"
[ "$(grep -c 'attend[a-z_]*_fp16_[^<]*</tr>' pair.html)" -eq 4 ] || fail "fp16 has not two lengths, dense and not"
grep -q 'head dim 128, fp16\.' pair.html || fail "the page does not say of which dtype it tells"
want 1 "$tamis" report nosuch.tamis -o n.html
want 2 "$tamis" report s.tamis
want 1 "$tamis" report s.tamis -o none/s.html
err_has 'cannot be written'
cp s.tamis kept.tamis
want 1 "$tamis" report s.tamis -o s.tamis
err_has 's.tamis: is a store, which stays'
same s.tamis kept.tamis
# A page that does not fit leaves the one that was there, and nothing beside it; a link stays one, and rights stay.
chmod 640 s.html
ln -s s.html link.html
cp s.html before.html
# shellcheck disable=SC2016 # $0 is that shell's
want 1 sh -c 'trap "" XFSZ; ulimit -f 8; exec "$0" report f.tamis --spec llama-3.1-8b -o link.html' "$tamis"
err_has 'link.html: cannot be written: File too large'
same s.html before.html
want 0 "$tamis" report f.tamis --spec llama-3.1-8b-flexprefill -o link.html
same s.html f.html
[ -L link.html ] || fail "the link became a file"
[ "$(stat -c %a s.html)" = 640 ] || fail "the page's rights are others now"
"$tamis" report f.tamis --spec llama-3.1-8b-flexprefill -o /dev/stdout | cat >piped.html
same piped.html f.html
[ -z "$(find . -name '*.tmp')" ] || fail "a temporary file is left"
want 0 "$tamis" gen llama-3.1-8b -o untuned.tamis --no-compile --arch sm_90a --defaults-only
want 1 "$tamis" report untuned.tamis -o n.html
err_has 'was not tuned: run tamis tune'
absent n.html

# ---- planted: a hang, a fault, one that breaks when timed, wrong numbers. Each costs itself alone, once.
: >log
unset FAKE_TUNE_FAST
export FAKE_TUNE_HANG=select_bm64_bc4 FAKE_TUNE_FAULT=compress_d128_bm64 FAKE_TUNE_LATE=select_bm64_bc1_c1_h16_pt256
export FAKE_TUNE_WRONG=$wide
# shellcheck disable=SC2086 # words
want 0 "$tamis" tune p.tamis --spec llama-3.1-8b $short --time-limit 0.4 --json
json_ok tune
out_has '"bad":'
err_has ', seq_len 8192, wrong: '
err_has ', seq_len 8192, fault: '
err_has ', seq_len 8192, hang: '
for name in select_bm64_bc4_c4_h32_pt256_t1024 compress_d128_bm64_t256 select_bm64_bc1_c1_h16_pt256_t1024; do
    [ "$(grep -c "^check .* $name " log)" -eq 1 ] || fail "$name is not tried once"
    if grep '"variant":"' out | grep -q "\"variant\":\"$name\""; then fail "$name is chosen"; fi
done
[ "$(grep -c "^time .* select_bm64_bc1_c1_h16_pt256_t1024" log)" -eq 1 ] || fail "what broke when timed was timed again"
if grep "^time .* $wide" log; then fail "wrong numbers were timed"; fi
if grep -q "\"variant\":\"$wide" out; then fail "wrong numbers were chosen"; fi
: >log
unset FAKE_TUNE_HANG FAKE_TUNE_FAULT FAKE_TUNE_LATE FAKE_TUNE_WRONG
# shellcheck disable=SC2086 # words
want 0 "$tamis" tune p.tamis $short
[ ! -s log ] || fail "a condemned candidate was tried again"

# ---- budget and Ctrl-C: what there is, is saved, and the rest follows
export FAKE_TUNE_US=6000
want 0 "$tamis" gen llama-3.1-8b -o b.tamis --arch sm_90a
cp b.tamis c.tamis
# shellcheck disable=SC2086 # words
want 7 "$tamis" tune b.tamis $short --budget 1.8s
err_has 'the budget is spent'
want 0 "$tamis" cache verify b.tamis
# What it counts are the buckets of all dtypes; one that was cut short is not called one of which nothing can be known.
want 0 "$tamis" gen llama-3.1-8b -o t.tamis --arch sm_90a --no-compile
# shellcheck disable=SC2086 # words
FAKE_TUNE_US=0 want 0 "$tamis" tune t.tamis $short --dtypes bf16 --json
buckets=$(grep -c '"type":"tune_bucket"' out)
# shellcheck disable=SC2086 # words
want 7 "$tamis" tune t.tamis $short --dtypes bf16,fp16 --budget 1.2s
tuned=$(sed -n 's/.*budget is spent, with \([0-9]*\) buckets tuned.*/\1/p' err)
[ "${tuned:-0}" -ge "$buckets" ] || fail "$tuned buckets tuned, of one dtype alone there are $buckets"
err_lacks 'nothing is known'
cp b.tamis j.tamis
# shellcheck disable=SC2086 # words
want 7 "$tamis" tune j.tamis $short --dtypes bf16 --budget 1s --json
json_ok tune
json_ok error
grep -q '"exit":7' out || fail "the error does not say its exit code"
want 0 "$tamis" cache ls b.tamis
[ "$(grep -c '^timing' out)" -gt 0 ] || fail "nothing was saved within the budget"
# shellcheck disable=SC2086 # words
want 130 timeout --foreground --preserve-status -s INT 1.8 "$tamis" tune c.tamis $short
err_has 'interrupted: the best so far is saved'
want 0 "$tamis" cache verify c.tamis
want 0 "$tamis" cache ls c.tamis
[ "$(grep -c '^timing' out)" -gt 0 ] || fail "nothing was saved at Ctrl-C"

# Two at once: the second says so and changes nothing, by whatever name; when the first is gone, it has its turn.
ln -s c.tamis same.tamis
# shellcheck disable=SC2086 # words
FAKE_TUNE_US=20000 "$tamis" tune c.tamis $short --again -q >first 2>&1 &
tuner=$!
sleep 0.5
# shellcheck disable=SC2086 # words
want 1 "$tamis" tune same.tamis $short
err_has 'same.tamis: another tamis tune is at work on it'
kill -9 $tuner
wait $tuner 2>/dev/null
# shellcheck disable=SC2086 # words
FAKE_TUNE_US=0 want 0 "$tamis" tune same.tamis $short
# While the first candidates are compiled too: it does not wait for all that a plan takes.
want 0 "$tamis" gen llama-3.1-8b -o w.tamis --arch sm_90a --no-compile
# shellcheck disable=SC2086 # words
FAKE_NVRTC_MS=400 want 130 timeout --foreground --preserve-status -s INT 1 "$tamis" tune w.tamis $short -j 1
err_has 'interrupted: the best so far is saved'
err_lacks 'is not compiled'
want 0 "$tamis" cache ls w.tamis
[ "$(grep -c '^cubin' out)" -le 3 ] || fail "$(grep -c '^cubin' out) kernels were compiled within a second of 0.4 s each"
rm w.tamis

# ---- kill -9 at random moments: the store is sound, what was finished stays, the rest follows
export FAKE_TUNE_US=500
kills=${TAMIS_TUNE_KILLS:-20}
i=0
before=0
state=12345
cat >tiles/small.yaml <<'TILES'
tiles:
  - family: score
    params: {stats_block_m: 128, stats_block_n: 64, stats_warps: 8, sum_block_m: 128, sum_block_n: 64, sum_warps: 8,
             stages: [2, 3]}
  - family: select
    params: {block_m: [128, 64], pool_threads: 256, threads: 1024, cluster: 1, budget_cluster: 1, held: 16}
  - family: compress
    params: {block_m: [64, 128], threads: 256}
  - family: attend
    params: {block_m: 128, block_n: [64, 32], stages: 2, warps: 8, q_in_registers: 0, rescale_threshold: 8, lazy_max: 0,
             tile_barriers: 0}
  - family: decompress
    params: {block_m: [1024, 512, 256], threads: 256}
TILES
sed 's|^tiles:.*|tiles: [tiles/small.yaml]|' my.yaml >small.yaml
want 0 "$tamis" gen small.yaml -o k.tamis
while [ $i -lt "$kills" ]; do
    i=$((i + 1))
    state=$(((state * 1103515245 + 12345) % 2147483648))
    "$tamis" tune k.tamis --ratios 0.75,0.5,0.25 >/dev/null 2>&1 &
    tuner=$!
    sleep "0.$(printf '%03d' $((state / 65536 % 300 + 20)))"
    kill -9 $tuner 2>/dev/null
    wait $tuner 2>/dev/null
    "$tamis" cache verify k.tamis >verified 2>&1 || fail "the store is damaged after kill $i: $(cat verified)"
    # An export has results alone, not what was begun.
    want 0 "$tamis" export k.tamis -o exported.tamis --sources-only --json
    now=$(sed -n 's/.*"timings":\([0-9]*\).*/\1/p' out)
    [ "$now" -ge "$before" ] || fail "finished rows are lost after kill $i: $before before, $now now"
    before=$now
done
[ "$before" -gt 0 ] || fail "nothing was finished between $kills kills"
: >log
want 0 "$tamis" tune k.tamis --ratios 0.75,0.5,0.25 --json
out_lacks '"variant":null'
out_has '"bad":0'
if grep -q '"bad":[1-9]' out; then fail "a candidate was blamed for a kill"; fi
: >log
want 0 "$tamis" tune k.tamis --ratios 0.75,0.5,0.25
[ ! -s log ] || fail "a rerun of what is whole timed something"
unset FAKE_TUNE_US

# ---- the process itself, on a GPU whose kernels do nothing: the defaults are wrong, and no one is blamed for that
want 6 env -u TAMIS_TUNE_WORKER TAMIS_LIBCUDA="$TAMIS_FAKE_CUDA" "$tamis" tune w.tamis --spec llama-3.1-8b --lengths 2048
err_has 'the default kernels: seq_len 777: sequence 0 keeps no possible number of tokens'
want 0 "$tamis" cache ls w.tamis
out_lacks wrong
want 4 env -u TAMIS_TUNE_WORKER TAMIS_LIBCUDA="$work/none" "$tamis" tune w.tamis
want 4 env -u TAMIS_TUNE_WORKER TAMIS_LIBCUDA="$TAMIS_FAKE_CUDA" FAKE_CUDA_CC=7.5 "$tamis" tune w.tamis
err_has 'compute capability 7.5'

# ---- what cannot be
FAKE_TUNE_NONE=1 want 4 "$tamis" tune s.tamis
err_has 'there is no GPU'
want 1 "$tamis" tune none.tamis
err_has 'no store none.tamis: tamis gen makes one'
absent none.tamis
: >none.tamis
want 1 "$tamis" tune none.tamis
err_has 'none.tamis has no spec'
want 1 "$tamis" tune s.tamis --spec nosuch
err_has nosuch
want 2 "$tamis" tune
want 2 "$tamis" tune s.tamis --budget soon
err_has '5m, 90s or 1h would be one'
for devices in 0,,1 '' '0,' ',0' -1 all,0; do
    want 2 "$tamis" tune s.tamis --devices "$devices"
    err_has "\"$devices\" is neither all nor GPUs' numbers"
done
want 2 "$tamis" tune s.tamis --devices 1,01
err_has '--devices: 1 is given twice'
want 2 "$tamis" tune s.tamis --lengths 0
want 2 "$tamis" tune s.tamis --ratios 2
want 2 "$tamis" tune s.tamis --ratios .
want 2 "$tamis" tune s.tamis --ratios 0.5,0.25,.5
err_has '--ratios: .5 is given twice'
want 2 "$tamis" tune s.tamis --budget .s
want 2 "$tamis" tune s.tamis --rigor much
want 2 "$tamis" tune s.tamis --pattern flexprefil
err_has flexprefill
TAMIS_LIBNVRTC=$work/none want 5 "$tamis" tune n.tamis --spec llama-3.1-8b --lengths 8192
err_has 'is not compiled'
# A full disk is not a compiler that lacks: it is said, whichever kernel is waited for, and what is in the store stays whole.
want 0 "$tamis" gen llama-3.1-8b -o full.tamis --arch sm_90a --no-compile
limited() { (trap '' XFSZ && ulimit -f $(($(stat -c %s full.tamis) / 1024 + room)) && "$@"); }
for room in 64 400; do
    cp full.tamis filled.tamis
    # shellcheck disable=SC2086 # words
    want 1 limited "$tamis" tune filled.tamis $short
    err_has 'filled.tamis: cannot write: '
    want 0 "$tamis" cache verify filled.tamis
done
TAMIS_TUNE_WORKER=$work/none want 1 "$tamis" tune s.tamis
err_has 'cannot start'
TAMIS_TUNE_WORKER=/bin/true want 1 "$tamis" tune s.tamis
err_has 'ended with code 0'
finish

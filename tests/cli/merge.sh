#!/bin/sh
# merge.sh: tamis import and tamis merge: unions, conflicts and who wins them, damage.
# shellcheck source=tests/cli/lib/common.sh
. "$(dirname "$0")/lib/common.sh"

listing() { "$tamis" cache ls "$1" --json -q | sort; }

# ---- arguments; a wrong name costs nothing
want 2 "$tamis" import
want 2 "$tamis" import a.tamis
err_has '--into STORE is missing'
want 2 "$tamis" merge a.tamis
err_has '-o OUT is missing'
want 2 "$tamis" merge a.tamis -o b.tamis --prefer middle
err_has 'first, last'
want 1 "$tamis" import absent.tamis --into s.tamis
absent s.tamis

# ---- two architectures make the store that both at once make
want 0 "$tamis" gen llama-3.1-8b -o both.tamis --no-compile --arch sm_80,sm_90a --defaults-only
want 0 "$tamis" gen llama-3.1-8b -o one.tamis --no-compile --arch sm_80 --defaults-only
want 0 "$tamis" gen llama-3.1-8b -o two.tamis --no-compile --arch sm_90a --defaults-only
want 1 "$tamis" import one.tamis absent.tamis --into s.tamis
absent s.tamis
want 0 "$tamis" merge one.tamis two.tamis -o merged.tamis
out_has '0 conflicts, 0 damaged'
listing both.tamis >wanted
listing merged.tamis >found
same wanted found
want 0 "$tamis" cache verify merged.tamis

# Again changes nothing; a store may be added to itself, and be its own output.
want 0 "$tamis" import merged.tamis --into both.tamis --json
json_ok import
out_has '"added":0'
want 0 "$tamis" import both.tamis --into both.tamis
out_has '0 items added'
want 0 "$tamis" merge one.tamis two.tamis -o one.tamis --json
json_ok merge
out_has '"kept":1,"conflicts":0'
listing one.tamis >found
same wanted found

# Models beside each other.
want 0 "$tamis" gen qwen3-8b -o other.tamis --no-compile --arch sm_80 --defaults-only
want 0 "$tamis" import other.tamis --into one.tamis
want 0 "$tamis" show one.tamis --spec qwen3-8b
want 0 "$tamis" show one.tamis --spec llama-3.1-8b

# ---- conflicts: one name, other text
want 0 "$tamis" spec show llama-3.1-8b
sed 's/15-30/15-29/' out >changed.yaml
cmp -s out changed.yaml && fail "the spec was not changed"
want 0 "$tamis" gen ./changed.yaml -o changed.tamis --no-compile --arch sm_80,sm_90a
listing merged.tamis >before
want 1 "$tamis" import changed.tamis --into merged.tamis
err_has 'conflict: spec llama-3.1-8b is another one in changed.tamis; no one wins'
err_has 'nothing was written'
listing merged.tamis >after
same before after
want 1 "$tamis" merge merged.tamis changed.tamis -o out.tamis --json
json_ok conflict
out_has '"kind":"spec","spec":"llama-3.1-8b","variant":null,"arch":null,"from":"changed.tamis","wins":null'
absent out.tamis

# What loses takes its variants along.
want 0 "$tamis" merge merged.tamis changed.tamis -o first.tamis --prefer first
err_has 'first wins'
out_has '1 conflicts'
want 0 "$tamis" show merged.tamis
cp out wanted
want 0 "$tamis" show first.tamis
same out wanted
want 0 "$tamis" merge merged.tamis changed.tamis -o last.tamis --prefer last
err_has 'last wins'
want 0 "$tamis" show changed.tamis
cp out wanted
want 0 "$tamis" show last.tamis
same out wanted
want 0 "$tamis" merge changed.tamis merged.tamis -o turned.tamis --prefer last
want 0 "$tamis" show merged.tamis
cp out wanted
want 0 "$tamis" show turned.tamis
same out wanted
want 0 "$tamis" import changed.tamis --into merged.tamis --prefer last --json
json_ok conflict
out_has '"wins":"last"'
out_has '"type":"import"'
want 0 "$tamis" cache verify merged.tamis

# ---- conflicts: one spec, and a variant of another text: here of another template
mkdir data
cp -r "$source_dir/templates" "$source_dir/runtime" "$source_dir/specs" data/
echo '// another end' >>data/templates/compress.cu.lua
want 0 "$tamis" gen llama-3.1-8b -o a.tamis --no-compile --arch sm_80 --defaults-only
want 0 env TAMIS_DATA_DIR="$work/data" "$tamis" gen llama-3.1-8b -o b.tamis --no-compile --arch sm_80 --defaults-only
want 1 "$tamis" merge a.tamis b.tamis -o ab.tamis
err_has 'conflict: variant llama-3.1-8b compress_d128'
err_has '1 conflicts, so nothing was written'
absent ab.tamis
# variant_source STORE: what its compress kernel is made from.
variant_source() { "$tamis" show "$1" --variant "$name" --arch sm_80; }
name=$("$tamis" show a.tamis --json | sed -n 's/.*"variant":"\(compress_[^"]*\)".*/\1/p' | head -n 1)
variant_source a.tamis >a.cu
variant_source b.tamis >b.cu
cmp -s a.cu b.cu && fail "the template was not changed"
want 0 "$tamis" merge a.tamis b.tamis -o ab.tamis --prefer first
err_has 'first wins'
variant_source ab.tamis >ab.cu
same a.cu ab.cu
want 0 "$tamis" merge a.tamis b.tamis -o ab.tamis --prefer last
variant_source ab.tamis >ab.cu
same b.cu ab.cu
same_store() { listing "$1" >x; listing "$2" >y; same x y; }

# ---- damage: what is whole is written, the rest is counted, and it is no success
offset=$(LC_ALL=C grep -abo '__global__' two.tamis | head -n 1 | cut -d: -f1)
[ -n "$offset" ] || fail "no source text in the store"
cp two.tamis hurt.tamis
printf 'X' | dd of=hurt.tamis bs=1 seek="$offset" conv=notrunc 2>/dev/null
want 1 "$tamis" import hurt.tamis --into healed.tamis
out_has '1 damaged'
err_has 'damaged source'
err_has '1 damaged items were left out; the rest was written'
want 0 "$tamis" cache verify healed.tamis
want 0 "$tamis" import two.tamis --into healed.tamis
out_has '1 items added'
same_store two.tamis healed.tamis
want 1 "$tamis" merge hurt.tamis -o h.tamis --json
json_ok merge
out_has '"damaged":1'
# A damaged item of the store that is added to is replaced.
want 0 "$tamis" import two.tamis --into hurt.tamis
same_store two.tamis hurt.tamis

# Of a store that is cut, what can be read.
head -c 60000 two.tamis >cut.tamis
want 1 "$tamis" merge cut.tamis -o h.tamis
err_has 'damaged or missing'
want 0 "$tamis" cache verify h.tamis
echo text >text.tamis
want 1 "$tamis" import text.tamis --into h.tamis
err_has 'is not a tamis store'
want 1 "$tamis" import two.tamis --into text.tamis
cp two.tamis newer.tamis # the format is the user_version, a big-endian number at byte 60
printf '\0\0\143\0' | dd of=newer.tamis bs=1 seek=60 conv=notrunc 2>/dev/null
want 1 "$tamis" import newer.tamis --into h.tamis
err_has 'has format'
want 1 "$tamis" import two.tamis --into newer.tamis
err_has 'has format'

# ---- cubins: the user's cache, which has no variants, is a store like any other
if [ -n "${TAMIS_FAKE_CUDA:-}" ]; then
    want 0 env TAMIS_LIBNVRTC="$TAMIS_FAKE_CUDA" "$tamis" gen llama-3.1-8b -o c13.tamis --arch sm_80 --defaults-only
    want 0 env TAMIS_LIBNVRTC="$TAMIS_FAKE_CUDA" FAKE_NVRTC_VERSION=12.8 "$tamis" gen llama-3.1-8b -o c12.tamis --arch sm_80 \
        --defaults-only
    want 0 "$tamis" merge c13.tamis c12.tamis -o compilers.tamis
    want 0 "$tamis" cache ls c13.tamis
    one=$(grep -c '^cubin' out)
    want 0 "$tamis" cache ls compilers.tamis
    [ "$(grep -c '^cubin' out)" -eq $((2 * one)) ] || fail "cubins of two compilers are not both there"
    want 0 "$tamis" import compilers.tamis --into c12.tamis
    out_has "$one items added"
else
    skip "cubins: no TAMIS_FAKE_CUDA"
fi

# Eight at once into one store: each row once, none lost.
for i in 1 2 3 4 5 6 7 8; do
    "$tamis" import both.tamis other.tamis --into shared.tamis -q >/dev/null 2>"err$i" &
done
wait
cat err[1-8] >err
err_empty
want 0 "$tamis" merge both.tamis other.tamis -o wanted.tamis
same_store wanted.tamis shared.tamis
for left in *.tamis.?????? ; do [ ! -e "$left" ] || fail "$left is left behind"; done
finish

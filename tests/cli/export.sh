#!/bin/sh
# export.sh: tamis export to a bundle: what goes into it, what keeps it from being made, and that a host can use it.
# shellcheck source=tests/cli/lib/common.sh
. "$(dirname "$0")/lib/common.sh"

# listing STORE: what a store holds, in an order that is its content's.
listing() { "$tamis" cache ls "$1" --json -q | sort; }

# ---- arguments
want 2 "$tamis" export
want 2 "$tamis" export s.tamis
err_has '-o is missing'
want 2 "$tamis" export s.tamis -o b.tamis --arch sm_81
err_has '"sm_81" is none of sm_80'
want 2 "$tamis" export s.tamis -o b.tamis --prefix mine
err_has 'is for --c'
want 2 "$tamis" export s.tamis -o b.tamis --c --sources-only
for prefix in '' Mine 1st my-kernels "$(printf '%041d' 0 | tr 0 a)"; do
    want 2 "$tamis" export s.tamis -o b --c --prefix "$prefix"
    err_has '--prefix'
done
want 1 "$tamis" export absent.tamis -o b.tamis
err_has 'no store absent.tamis'
echo text >text.tamis
want 1 "$tamis" export text.tamis -o b.tamis
absent b.tamis

# ---- sources alone: what is not compiled is not shipped unless asked for
want 0 "$tamis" gen llama-3.1-8b -o s.tamis --no-compile --arch sm_80,sm_90a --defaults-only
want 5 "$tamis" export s.tamis -o b.tamis
err_has 'are not compiled'
absent b.tamis
want 5 "$tamis" export s.tamis -o b.tamis --json
json_ok error
want 0 "$tamis" export s.tamis -o b.tamis --sources-only
out_has '1 specs'
out_has ' 0 cubins'
listing s.tamis >all
listing b.tamis >bundled
same all bundled
want 1 "$tamis" export s.tamis -o c.tamis --sources-only --spec absent
err_has 'it has llama-3.1-8b'
want 1 "$tamis" export s.tamis -o c.tamis --sources-only --arch sm_120
err_has 'has no variants for sm_120'
absent c.tamis

# ---- what is chosen: a spec, architectures, defaults
want 0 "$tamis" gen llama-3.1-8b qwen3-8b -o two.tamis --no-compile --arch sm_80
want 0 "$tamis" export two.tamis -o c.tamis --sources-only --spec qwen3-8b --defaults-only
out_has '1 specs'
want 0 "$tamis" cache ls c.tamis
out_has 'qwen3-8b'
out_lacks 'llama-3.1-8b'
want 0 "$tamis" show c.tamis
awk 'NR > 1 && $3 != 0 { exit 1 }' out || fail "a variant that is no default was exported"
want 0 "$tamis" export s.tamis -o c.tamis --sources-only --arch sm_80
want 0 "$tamis" cache ls c.tamis
out_lacks sm_90a
out_has sm_80
want 0 "$tamis" export two.tamis -o c.tamis --sources-only
out_has '2 specs'

# ---- with cubins, of a compiler that is none
if [ -n "${TAMIS_FAKE_CUDA:-}" ]; then
    want 0 env TAMIS_LIBNVRTC="$TAMIS_FAKE_CUDA" "$tamis" gen llama-3.1-8b -o s.tamis --arch sm_80,sm_90a --defaults-only
    listing s.tamis >all
    want 0 "$tamis" export s.tamis -o b.tamis --json
    json_ok export
    out_has '"c":false,"specs":1'
    out_lacks '"cubins":0'
    listing b.tamis >bundled
    same all bundled
    want 0 "$tamis" export b.tamis -o again.tamis
    same b.tamis again.tamis
    want 0 "$tamis" export s.tamis -o c.tamis --sources-only
    want 0 "$tamis" cache ls c.tamis
    out_lacks 'cubin '

    # Round trip: an empty store has all, and what was compiled is compiled.
    want 0 "$tamis" import b.tamis --into back.tamis
    listing back.tamis >back
    same all back
    want 0 env TAMIS_LIBNVRTC="$TAMIS_FAKE_CUDA" "$tamis" gen llama-3.1-8b -o back.tamis --arch sm_80,sm_90a --defaults-only
    err_has 'nothing to compile'

    # Of two compilers' cubins the newest goes along.
    want 0 env TAMIS_LIBNVRTC="$TAMIS_FAKE_CUDA" FAKE_NVRTC_VERSION=12.8 "$tamis" gen llama-3.1-8b -o s.tamis \
        --arch sm_80 --defaults-only
    want 0 "$tamis" export s.tamis -o newest.tamis --arch sm_80
    want 0 "$tamis" export b.tamis -o older.tamis --arch sm_80
    want 0 "$tamis" cache ls newest.tamis
    grep -c '^cubin' out >newest
    want 0 "$tamis" cache ls older.tamis
    grep -c '^cubin' out >older
    same newest older
    LC_ALL=C grep -qa 'nvrtc 12.8' newest.tamis || fail "the newest cubins are not in the bundle"
    if LC_ALL=C grep -qa 'nvrtc 13.0' newest.tamis; then fail "the older cubins are in the bundle"; fi

    # A host on a read-only medium: the plan takes the bundle's cubins and writes nothing. Root may write anywhere.
    mkdir shelf
    cp b.tamis shelf/
    chmod 444 shelf/b.tamis
    chmod 555 shelf
    want 0 "$tamis" show shelf/b.tamis
    want 0 "$tamis" cache verify shelf/b.tamis
    want 0 "$tamis" export shelf/b.tamis -o from_shelf.tamis
    same b.tamis from_shelf.tamis
    # On a GPU that computes nothing, without a compiler: the kernels load and run, and their output is found wrong.
    on_gpu() { env TAMIS_LIBCUDA="$TAMIS_FAKE_CUDA" FAKE_CUDA_CC=8.0 TAMIS_LIBNVRTC=/nonexistent "$@"; }
    want 6 on_gpu "$tamis" verify "$reference/gqa_d128" --store shelf/b.tamis --device cuda:0
    out_has 'NOT EQUAL'
    absent cache/cache.tamis
    want 5 on_gpu "$tamis" verify "$reference/gqa_d128" --store c.tamis --device cuda:0
    err_has NVRTC
    ls shelf >shelved
    echo b.tamis >only
    same only shelved
    if [ "$(id -u)" -ne 0 ]; then
        want 1 "$tamis" export s.tamis -o shelf/c.tamis
        err_has 'cannot make a file beside'
        want 1 "$tamis" import s.tamis --into shelf/b.tamis
    else
        skip "a folder that cannot be written: root can"
    fi
    chmod 755 shelf

    # ---- a damaged cubin is a missing one; a bundle is never made of it
    offset=$(LC_ALL=C grep -abo 'cubin of attend' b.tamis | head -n 1 | cut -d: -f1)
    [ -n "$offset" ] || fail "no cubin in the bundle"
    cp b.tamis hurt.tamis
    printf 'X' | dd of=hurt.tamis bs=1 seek="$offset" conv=notrunc 2>/dev/null
    want 5 "$tamis" export hurt.tamis -o h.tamis
    err_has '1 of '
    err_has 'damaged cubin'
    absent h.tamis
    want 0 "$tamis" export hurt.tamis -o h.tamis --sources-only
else
    skip "cubins: no TAMIS_FAKE_CUDA"
fi

# A damaged variant would be missed by no one: nothing is exported.
offset=$(LC_ALL=C grep -abo 'compress tamis_compress_' s.tamis | head -n 1 | cut -d: -f1)
[ -n "$offset" ] || fail "no variant in the store"
cp s.tamis hurt.tamis
printf 'X' | dd of=hurt.tamis bs=1 seek="$offset" conv=notrunc 2>/dev/null
want 1 "$tamis" export hurt.tamis -o h2.tamis --sources-only
err_has '1 specs or variants are damaged'
absent h2.tamis

# ---- the place: what was there stays until the new one is whole, and nothing is left beside it
cp b.tamis kept.tamis
want 1 "$tamis" export s.tamis -o kept.tamis --arch sm_120
same b.tamis kept.tamis
: >kept.tamis-journal
want 1 "$tamis" export s.tamis -o kept.tamis --sources-only
err_has 'lies beside it'
rm kept.tamis-journal
mkdir folder.tamis
want 1 "$tamis" export s.tamis -o folder.tamis --sources-only
err_has 'is not a regular file'
# What is no store is not taken for an older bundle.
echo 'name: mine' >spec.yaml
cp spec.yaml spec.kept
for command in export merge; do
    want 1 "$tamis" $command s.tamis -o spec.yaml
    err_has 'spec.yaml: is there and no store, so it stays'
    same spec.yaml spec.kept
done
want 1 "$tamis" export s.tamis -o nowhere/c.tamis --sources-only
want 0 "$tamis" export s.tamis -o s.tamis --sources-only --arch sm_80
want 0 "$tamis" cache verify s.tamis
for left in *.tamis.??????; do [ ! -e "$left" ] || fail "$left is left behind"; done
# No room: nothing new is there, and nothing is left.
if (trap '' XFSZ && ulimit -f 8) 2>/dev/null; then
    cp b.tamis kept.tamis
    limited() { (trap '' XFSZ && ulimit -f "$blocks" && "$@"); }
    for blocks in 8 64 128; do
        want 1 limited "$tamis" export s.tamis -o kept.tamis --sources-only
        same b.tamis kept.tamis
        want 1 limited "$tamis" merge s.tamis -o kept.tamis
        same b.tamis kept.tamis
    done
    for left in *.tamis.??????*; do [ ! -e "$left" ] || fail "$left is left behind"; done
fi
umask 027
want 0 "$tamis" export s.tamis -o mode.tamis --sources-only
[ "$(stat -c %a mode.tamis 2>/dev/null || stat -f %Lp mode.tamis)" = 640 ] || fail "a bundle does not heed the umask"
finish

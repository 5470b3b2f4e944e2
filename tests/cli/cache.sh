#!/bin/sh
# cache.sh: tamis cache ls, gc and verify, of stores and of the user's cache.
# shellcheck source=tests/cli/lib/common.sh
. "$(dirname "$0")/lib/common.sh"

# No cache yet is no failure, and looking makes none.
for command in ls gc verify; do
    want 0 "$tamis" cache $command
    out_empty
    err_has 'no cache yet'
    absent cache/cache.tamis
    want 1 "$tamis" cache $command absent.tamis
    err_has absent.tamis
    absent absent.tamis
done

want 0 "$tamis" gen llama-3.1-8b -o s.tamis --no-compile --arch sm_80
want 0 "$tamis" cache ls s.tamis
for part in KIND BYTES 'spec ' 'source ' 'variant '; do out_has "$part"; done
out_lacks damaged
err_has '0 damaged'
want 0 "$tamis" cache ls s.tamis -q
err_empty
want 0 "$tamis" cache ls s.tamis --json
json_ok item
out_has '"intact":true'
want 0 "$tamis" cache verify s.tamis
out_has 'structure sound'
want 0 "$tamis" cache verify s.tamis --json
json_ok cache_verify
out_has '"sound":true'
want 0 "$tamis" cache gc s.tamis
out_has '0 items removed'

# Sources that no variant refers to any more go.
want 0 "$tamis" gen llama-3.1-8b -o s.tamis --no-compile --arch sm_80 --defaults-only
want 0 "$tamis" cache gc s.tamis --json
json_ok gc
out_lacks '"removed":0'
want 0 "$tamis" cache gc s.tamis
out_has '0 items removed'
want 0 "$tamis" show s.tamis
out_has attend_bf16

# The user's cache is where TAMIS_CACHE_DIR says.
mkdir -p cache
cp s.tamis cache/cache.tamis
want 0 "$tamis" cache ls
out_has 'spec '
want 0 "$tamis" cache verify
out_has 'cache/cache.tamis'

# ---- damage: a changed byte of a source's text is found, and only that source goes
offset=$(LC_ALL=C grep -abo 'Compact rows' s.tamis | head -n 1 | cut -d: -f1)
[ -n "$offset" ] || offset=$(LC_ALL=C grep -abo '__global__' s.tamis | head -n 1 | cut -d: -f1)
[ -n "$offset" ] || fail "no source text in the store"
cp s.tamis hurt.tamis
printf 'X' | dd of=hurt.tamis bs=1 seek="$offset" conv=notrunc 2>/dev/null
want 1 "$tamis" cache verify hurt.tamis
err_has 'damaged: source'
err_has 'is damaged'
want 1 "$tamis" cache verify hurt.tamis --json
json_ok cache_verify
out_has '"sound":false'
want 0 "$tamis" cache ls hurt.tamis
out_has damaged
want 0 "$tamis" cache gc hurt.tamis
out_has '1 items removed'
want 0 "$tamis" cache verify hurt.tamis
want 0 "$tamis" gen llama-3.1-8b -o hurt.tamis --no-compile --arch sm_80 --defaults-only
want 0 "$tamis" cache ls hurt.tamis --json
sort out >healed
want 0 "$tamis" cache ls s.tamis --json
sort out >whole
same healed whole

# A cut store, one of a newer format, and none at all.
head -c 5000 s.tamis >cut.tamis
"$tamis" cache verify cut.tamis >out 2>err
[ $? -eq 1 ] || fail "a cut store is not found out"
cp s.tamis newer.tamis # the format is the user_version, a big-endian number at byte 60
printf '\0\0\143\0' | dd of=newer.tamis bs=1 seek=60 conv=notrunc 2>/dev/null
for command in ls gc verify; do
    want 1 "$tamis" cache $command newer.tamis
    err_has newer
done
echo text >text.tamis
want 1 "$tamis" cache ls text.tamis
want 1 "$tamis" cache ls text.tamis --json
json_ok error
: >empty.tamis
want 1 "$tamis" cache verify empty.tamis
finish

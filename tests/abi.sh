#!/bin/sh
# abi.sh LIBRARY|BUILD_FOLDER [HEADER]: the symbols that libtamis.so exports are exactly the functions that tamis.h declares.
set -eu

if [ $# -lt 1 ] || [ $# -gt 2 ]; then
    echo "usage: $0 path/to/libtamis.so, or the build folder that has it [path/to/tamis.h]" >&2
    exit 2
fi
library=$1
[ ! -d "$library" ] || library=$library/libtamis.so
header=${2:-$(dirname "$0")/../runtime/tamis.h}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Each declaration opens with TAMIS_API; the name is the last word before the first parenthesis.
grep -v '^ *#' "$header" | tr '\n' ' ' | grep -o 'TAMIS_API[^(]*(' | sed 's/ *($//; s/.*[ *]//' | sort >"$work/declared"
# Without version nodes (A) and the versions behind names. The sanitizers' runtimes bring names of their own.
nm -D --defined-only "$library" >"$work/symbols"
awk '$2 != "A" {sub(/@.*/, "", $3); print $3}' "$work/symbols" |
    grep -v -e '^__asan_' -e '^__ubsan_' -e '^__odr_asan' | sort >"$work/exported"

if [ ! -s "$work/declared" ]; then
    echo "abi: no declarations found in $header" >&2
    exit 1
fi
if ! diff "$work/declared" "$work/exported" >"$work/difference"; then
    echo "abi: < declared in tamis.h, not exported; > exported by $library, not declared" >&2
    cat "$work/difference" >&2
    exit 1
fi
echo "abi: $(wc -l <"$work/declared") symbols, as declared"

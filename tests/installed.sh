#!/usr/bin/env bash
# installed.sh BUILD: installs into an empty prefix, moves that, and lets a host of its own (tests/consumer/) find it by CMake
# and by pkg-config. Then the build folder is put out of sight, the installed tool makes a store, and the hosts open and
# run it. Nothing else may use the build folder meanwhile; it comes back however this ends.
set -euo pipefail

build=$(cd "${1:?usage: installed.sh BUILD}" && pwd)
tests=$(cd "$(dirname "$0")" && pwd)
folder=$(mktemp -d "${TMPDIR:-/tmp}/tamis-installed-XXXXXX")
hidden=$build.out-of-sight.$$
prefix=$folder/moved
export TAMIS_CACHE_DIR=$folder/cache # not in the build folder

restore() {
    # What somebody made in its place meanwhile would have it moved to the inside of that.
    if [ -d "$hidden" ]; then rm -rf "$build" && mv "$hidden" "$build"; fi
    rm -rf "$folder"
}
trap restore EXIT
trap 'exit 1' HUP INT TERM

fail() {
    echo "installed: $*" >&2
    exit 1
}

must() { # what is only of interest where it fails
    "$@" >"$folder/log" 2>&1 </dev/null || { cat "$folder/log" >&2; fail "this failed: $*"; }
}

# ---- what is installed: by a prefix, which then moves, and by DESTDIR the same
cd "$folder"
must cmake --install "$build" --prefix "$folder/first"
DESTDIR=$folder/staged must cmake --install "$build"
staged=$folder/staged$(sed -n 's/^CMAKE_INSTALL_PREFIX:[A-Z]*=//p' "$build/CMakeCache.txt")
must diff -r "$folder/first" "$staged"
mv first moved
rm -rf staged

libdir=$(dirname "$(find "$prefix" -name libtamis.so)")
version=$("$prefix/bin/tamis" --version | sed 's/^tamis //')
[ "$(readlink "$libdir/libtamis.so")" = libtamis.so.0 ] || fail "libtamis.so is no link to libtamis.so.0"
[ "$(readlink "$libdir/libtamis.so.0")" = "libtamis.so.$version" ] || fail "libtamis.so.0 is no link to libtamis.so.$version"
objdump -p "$libdir/libtamis.so" >dynamic
grep -q '^ *SONAME *libtamis\.so\.0$' dynamic || fail "the SONAME is $(grep SONAME dynamic)"
! grep -E '^ *(RPATH|RUNPATH) ' dynamic || fail "libtamis.so looks for libraries in a folder of its own"
sh "$tests/abi.sh" "$libdir/libtamis.so" "$prefix/include/tamis.h"
# A program that takes libtamis.a in has only names of ours beside its own.
nm -g --defined-only "$libdir/libtamis.a" | awk 'NF == 3 && $3 !~ /^tamisi?_/ { print; bad = 1 } END { exit bad }' ||
    fail "libtamis.a has the names above"
for file in share/man/man1/tamis.1 share/bash-completion/completions/tamis share/zsh/site-functions/_tamis \
    share/fish/vendor_completions.d/tamis.fish share/doc/tamis/LICENSE share/tamis/runtime/kernel_args.h \
    share/tamis/runtime/drift_args.h share/tamis/runtime/block_args.h share/tamis/runtime/pattern_args.h \
    share/tamis/runtime/pattern_stages.inc share/tamis/runtime/map_args.h; do
    [ -s "$prefix/$file" ] || fail "there is no $file"
done
! grep -rlF "$folder/first" "$prefix" || fail "the files above hold the prefix"

# ---- hosts
must cmake -S "$tests/consumer" -B host -DCMAKE_PREFIX_PATH="$prefix"
must cmake --build host
mkdir made
export PKG_CONFIG_PATH=$libdir/pkgconfig
must make -C made -f "$tests/consumer/Makefile" SOURCE="$tests/consumer"
[ "$(pkg-config --modversion tamis)" = "$version" ] || fail "pkg-config says that this is $(pkg-config --modversion tamis)"
must pkg-config --atleast-version=0.1 tamis
for program in host/consumer_static made/with_static; do
    ! objdump -p "$program" | grep 'NEEDED *libtamis' || fail "$program takes the shared library"
done
cp "$build/tests/fake_cuda.so" nvrtc.so
! grep -rlF "$build" "$prefix" host/consumer* made || fail "the files above know the build folder"

# ---- without the build folder
mv "$build" "$hidden"
tamis=$prefix/bin/tamis
"$tamis" doctor >said 2>&1 || true
grep -qF "$prefix/share/tamis (installed)" said || { cat said; fail "the tool does not use the data beside it"; }
must "$tamis" gen "$tests/consumer/consumer.yaml" -o store.tamis --no-compile --defaults-only
sed 's/count: 40/count: 41/' "$tests/consumer/consumer.yaml" >other.yaml
must "$tamis" gen other.yaml -o other.tamis --no-compile --defaults-only
for program in host/consumer host/consumer_cpp host/consumer_static made/with_shared made/with_static; do
    # CMake leaves the library's place in what it builds; who uses pkg-config says it.
    path=
    [ $program != made/with_shared ] || path=$libdir
    LD_LIBRARY_PATH=$path must "$program" store.tamis
    echo "$program: $(cat log)"
    ! LD_LIBRARY_PATH=$path "$program" other.tamis 2>log || fail "$program takes another store for the one it knows"
    grep -qF 'selection.count == COUNT' log || { cat log >&2; fail "$program fails otherwise than it should"; }
done

# A shipped spec, compiled by what stands in for NVRTC, and the launcher, which is data too.
TAMIS_LIBNVRTC=$folder/nvrtc.so must "$tamis" gen llama-3.1-8b -o a.tamis --arch sm_80 --defaults-only
must "$tamis" export --c a.tamis -o kernels
echo "installed: tool, library, CMake and pkg-config hosts, without the build folder"

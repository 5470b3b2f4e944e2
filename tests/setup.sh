#!/usr/bin/env bash
# setup.sh [build|tests|pytorch]: installs what this machine lacks to build tamis ("build") or to test it too ("tests", the
# default); "pytorch" is setup_pytorch.sh, for the Python examples.
#
# Debian and Ubuntu packages with apt-get, through sudo where that is needed; only what a probe does not find. NVRTC, where
# no CUDA toolkit has one, from its Python wheel into .deps/ of this tree. Can be run again; says what it does; fails with
# one line. Writes .deps/environment, which the other scripts read: TAMIS_LIBNVRTC where the library would not be found by
# itself. TAMIS_NVRTC=wheel takes the wheel even where there is a toolkit.
set -euo pipefail

purpose=${1:-tests}
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
deps=$root/.deps
log=$deps/setup.log
nvrtc_wheel_12='nvidia-cuda-nvrtc-cu12==12.9.*'
nvrtc_wheel_13='nvidia-cuda-nvrtc==13.0.*'

say() { printf 'setup: %s\n' "$*"; }

fail() {
    printf 'setup: failed: %s\n' "$*" >&2
    exit 1
}

trap 'fail "line $LINENO of setup.sh, unforeseen"' ERR

[ "$purpose" != pytorch ] || exec "$root/tests/setup_pytorch.sh"
case $purpose in
    # 12.0 is the first that knows sm_90a, 12.8 the first that knows sm_100 and sm_120.
    build) nvrtc_least=1200 ;;
    tests) nvrtc_least=1208 ;;
    *) fail "usage: setup.sh [build|tests|pytorch]" ;;
esac
mkdir -p "$deps" || fail "cannot make $deps"
: >"$log"

# ---- packages

has_command() { command -v "$1" >/dev/null 2>&1; }
has_header() { printf '#include <stdio.h>\n#include <%s>\n' "$1" | cc -E -I/usr/include/lua5.4 - >/dev/null 2>&1; }

has_libfuzzer() {
    local code='#include <stddef.h>
int LLVMFuzzerTestOneInput(const unsigned char *, size_t);
int LLVMFuzzerTestOneInput(const unsigned char *d, size_t n) { return !d && n; }'
    has_command clang && printf '%s\n' "$code" | clang -fsanitize=fuzzer,address -x c - -o "$deps/probe" >/dev/null 2>&1
}

# "probe|package": a command, a header.h or libfuzzer, and the package that has it.
probes_build='cc|build-essential c++|build-essential cmake|cmake make|make yaml.h|libyaml-dev lua.h|liblua5.4-dev
sqlite3.h|libsqlite3-dev xxhash.h|libxxhash-dev'
probes_tests='check.h|check clang|clang clang++|clang libfuzzer|libclang-rt-dev valgrind|valgrind
shellcheck|shellcheck python3|python3 pkg-config|pkg-config dpkg-shlibdeps|dpkg-dev file|file zsh|zsh fish|fish'

probes=$probes_build
[ "$purpose" = build ] || probes="$probes_build $probes_tests"

found() {
    case $1 in
        *.h) has_header "$1" ;;
        libfuzzer) has_libfuzzer ;;
        *) has_command "$1" ;;
    esac
}

# What is not found, and the packages that have it, each once.
look() {
    local probe
    missing=() packages=()
    for probe in $probes; do
        found "${probe%%|*}" && continue
        missing+=("${probe%%|*}")
        [[ " ${packages[*]} " == *" ${probe##*|} "* ]] || packages+=("${probe##*|}")
    done
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif has_command sudo; then
        sudo "$@"
    else
        return 77
    fi
}

apt() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 "$@" >>"$log" 2>&1 </dev/null
}

# The fuzzer's runtime has its own package on some releases only, and there under a versioned name on some.
fuzzer_package() {
    local major
    major=$(clang -dumpversion 2>/dev/null | cut -d. -f1 || true)
    if apt-cache show libclang-rt-dev >/dev/null 2>&1; then
        echo libclang-rt-dev
    else
        echo "libclang-rt-$major-dev"
    fi
}

install_packages() {
    has_command apt-get || fail "there is no apt-get here; install by hand: $*"
    [ "$(id -u)" -eq 0 ] || has_command sudo || fail "$* must be installed: run as root, or install sudo"
    say "installing $*"
    apt update || fail "apt-get update: $(tail -n 1 "$log")"
    apt install -y --no-install-recommends "$@" || fail "apt-get install: $(grep '^E:' "$log" | tail -n 1) (all of it in $log)"
}

look
if [ ${#packages[@]} -gt 0 ]; then
    first=()
    for package in "${packages[@]}"; do [ "$package" = libclang-rt-dev ] || first+=("$package"); done
    [ ${#first[@]} -eq 0 ] || install_packages "${first[@]}"
    look
    [ "${missing[*]}" != libfuzzer ] || install_packages "$(fuzzer_package)"
    look
    [ ${#missing[@]} -eq 0 ] || fail "still not found after installation: ${missing[*]} (see $log)"
fi

# ---- NVRTC

# Version of a libnvrtc by its full name, libnvrtc.so.13.0.88, as 1300; 0 where the name does not say.
nvrtc_version() {
    local name
    name=$(basename "$(readlink -f "$1")")
    case $name in
        libnvrtc.so.[0-9]*.[0-9]*) echo "$name" | awk -F. '{ print $3 * 100 + $4 }' ;;
        *) builtins_version "$(dirname "$1")" ;;
    esac
}

# The wheel has no full name; libnvrtc-builtins.so.13.0 beside it has.
builtins_version() {
    local file
    for file in "$1"/libnvrtc-builtins.so.*.*; do
        [ -e "$file" ] || continue
        basename "$file" | awk -F. '{ print $3 * 100 + $4 }'
        return
    done
    echo 0
}

# Where the library itself looks: nothing to export then.
nvrtc_by_itself() {
    PATH=$PATH:/sbin:/usr/sbin ldconfig -p 2>/dev/null |
        awk '/libnvrtc\.so\.1[2-9] .*x86-64|libnvrtc\.so\.1[2-9] .*AArch64/ { print $NF }'
    nvrtc_in "${CUDA_HOME:-}" "${CUDA_PATH:-}" /usr/local/cuda
}

nvrtc_elsewhere() {
    local prefix
    for prefix in $(printf '%s\n' /usr/local/cuda-* /opt/cuda* | sort -rV); do nvrtc_in "$prefix"; done
}

nvrtc_in() {
    local prefix file
    for prefix in "$@"; do
        for file in "$prefix"/lib64/libnvrtc.so.1[2-9] "$prefix"/lib/libnvrtc.so.1[2-9]; do
            if [ -n "$prefix" ] && [ -e "$file" ]; then printf '%s\n' "$file"; fi
        done
    done
}

# The driver's CUDA major: a cubin of NVRTC 13 wants a driver of 13.
driver_major() {
    { nvidia-smi 2>/dev/null || true; } | sed -n 's/.*CUDA Version: *\([0-9]*\)\..*/\1/p' | sed -n 1p
}

fetch_wheel() {
    local wheel=$nvrtc_wheel_13 folder=$deps/nvrtc-13
    if [ "$(driver_major)" = 12 ]; then wheel=$nvrtc_wheel_12 folder=$deps/nvrtc-12; fi
    if ! compgen -G "$folder/*/*/lib/libnvrtc.so.1[2-9]" >/dev/null; then
        python3 -m pip --version >/dev/null 2>&1 || install_packages python3-pip
        say "fetching NVRTC (${wheel%%=*}) into .deps/"
        rm -rf "$deps/wheel" "$folder" "$folder.part"
        mkdir "$deps/wheel"
        python3 -m pip download --quiet --no-deps --only-binary :all: --dest "$deps/wheel" "$wheel" >>"$log" 2>&1 </dev/null ||
            fail "no CUDA toolkit with NVRTC here, and pip download $wheel did not work: $(tail -n 1 "$log")" \
                "(all of it in $log)"
        python3 -m zipfile -e "$deps"/wheel/*.whl "$folder.part" >>"$log" 2>&1 || fail "cannot unpack the wheel of $wheel"
        mv "$folder.part" "$folder"
        rm -rf "$deps/wheel"
    fi
    nvrtc=$(compgen -G "$folder/*/*/lib/libnvrtc.so.1[2-9]" | sed -n 1p)
}

nvrtc='' exported=''
if [ -n "${TAMIS_LIBNVRTC:-}" ]; then
    [ -e "$TAMIS_LIBNVRTC" ] || fail "TAMIS_LIBNVRTC is $TAMIS_LIBNVRTC, which does not exist"
    nvrtc=$TAMIS_LIBNVRTC exported=1
elif [ "${TAMIS_NVRTC:-}" != wheel ]; then
    candidate=$(nvrtc_by_itself | sed -n 1p)
    if [ -n "$candidate" ] && [ "$(nvrtc_version "$candidate")" -ge $nvrtc_least ]; then
        nvrtc=$candidate
    else
        while read -r candidate; do
            if [ "$(nvrtc_version "$candidate")" -ge $nvrtc_least ]; then nvrtc=$candidate exported=1 && break; fi
        done < <(nvrtc_elsewhere)
    fi
fi
if [ -z "$nvrtc" ]; then
    fetch_wheel
    exported=1
fi
if [ -n "$exported" ]; then
    printf 'export TAMIS_LIBNVRTC=%q\n' "$nvrtc" >"$deps/environment"
else
    : >"$deps/environment"
fi
rm -f "$deps/probe"
version=$(nvrtc_version "$nvrtc")
say "everything is there; NVRTC $((version / 100)).$((version % 100)) in ${nvrtc#"$root"/}"

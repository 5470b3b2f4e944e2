#!/usr/bin/env bash
# setup_pytorch.sh: a virtual environment in .deps/pytorch/ for examples/pytorch/: torch, transformers and pytest, at the
# versions of examples/pytorch/tests/requirements.txt. `tests/setup.sh pytorch` is the same. Can be run again.
#
# torch's wheel for x86-64 Linux is made for CUDA, and its libraries ask for 2 GB more of NVIDIA's, which nothing on a CPU
# calls. So those are left out, and an empty library stands in for each: its functions are there for the loader alone, and
# return an error. What torch does call where there is no GPU, the CUDA runtime, is the real one.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
deps=$root/.deps
venv=$deps/pytorch
python=$venv/bin/python
log=$deps/setup_pytorch.log
wanted=$root/examples/pytorch/tests/requirements.txt

say() { printf 'setup: %s\n' "$*"; }

fail() {
    printf 'setup: failed: %s\n' "$*" >&2
    exit 1
}

trap 'fail "line $LINENO of setup_pytorch.sh, unforeseen"' ERR

pip() { python3 -m pip --python "$python" --disable-pip-version-check --no-input "$@" >>"$log" 2>&1 </dev/null; }

# Of torch's libraries: those that are needed and neither there nor the system's.
absent() { # FOLDER
    local needed
    for needed in $(objdump -p "$1"/libtorch*.so | sed -n 's/^ *NEEDED *//p' | sort -u); do
        case $needed in libcu*.so.* | libnccl.so.* | libnv*.so.*) ;; *) continue ;; esac
        compgen -G "$1/$needed" >/dev/null || compgen -G "$1/../../nvidia/*/lib/$needed" >/dev/null || printf '%s\n' "$needed"
    done
}

# The functions stand in a library of their own, which the others load: a symbol's version may name any of them.
stand_in() {
    local folder name
    folder=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/torch/lib
    [ -e "$folder/libtorch_cuda.so" ] || return 0
    nm -D --undefined-only "$folder"/libtorch*.so | awk '{ sub(/@.*/, "", $2); print $2 }' |
        grep -E '^(cublas|cudnn|cufft|cusolver|cusparse|curand|cuFile|nccl|nvshmem|nvJitLink)' | sort -u |
        awk '{ print "int " $1 "(void) { return 999; }" }' >"$venv/absent.c"
    cc -shared -fPIC -w "$venv/absent.c" -Wl,-soname,libabsent.so -o "$folder/libabsent.so"
    absent "$folder" >"$venv/absent"
    while read -r name; do
        cc -shared -fPIC -x c /dev/null -Wl,-soname,"$name" -Wl,--no-as-needed -L"$folder" -labsent -Wl,-rpath,"\$ORIGIN" \
            -o "$folder/$name"
    done <"$venv/absent"
}

mkdir -p "$deps" || fail "cannot make $deps"
if cmp -s "$wanted" "$venv/complete"; then
    say "torch is there"
    exit
fi
: >"$log"
python3 -m pip --version >/dev/null 2>&1 || fail "there is no pip here: apt-get install python3-pip"
say "fetching torch and transformers into .deps/"
rm -rf "$venv"
python3 -m venv --without-pip "$venv" >>"$log" 2>&1 || fail "python3 -m venv: $(tail -n 1 "$log")"
pip install --quiet --no-deps --no-compile --only-binary :all: -r "$wanted" ||
    fail "pip install: $(tail -n 1 "$log") (all of it in $log)"
stand_in >>"$log" 2>&1
"$python" -c 'import torch, transformers, pytest, numpy, yaml' >>"$log" 2>&1 ||
    fail "torch does not load: $(tail -n 1 "$log") (all of it in $log)"
cp "$wanted" "$venv/complete"
say "$("$python" -c 'import torch, transformers
print("torch", torch.__version__, "and transformers", transformers.__version__)')"

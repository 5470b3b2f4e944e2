#!/bin/sh
# doctor.sh: tamis doctor with and without driver, GPU, compiler, data and cache, and where the data folder is looked for.
# shellcheck source=tests/cli/lib/common.sh
. "$(dirname "$0")/lib/common.sh"

want 0 "$tamis" doctor
err_empty
for part in tamis data cpu driver nvrtc cache 'cpu ready: yes' 'gpu ready: ' 'can compile: '; do out_has "$part"; done
want 0 "$tamis" doctor --json
json_ok doctor
json_ok finding
out_has '"cpu_ready":true'

# Neither library: the CPU path works, and it is said what is missing and what to do.
want 0 env TAMIS_LIBCUDA=/nonexistent/libcuda.so.1 TAMIS_LIBNVRTC=/nonexistent/libnvrtc.so "$tamis" doctor
out_has '--  driver'
out_has '--  nvrtc'
out_has '/nonexistent/libnvrtc.so'
out_has 'TAMIS_LIBNVRTC'
out_has 'gpu ready: no'
out_has 'can compile: no'
want 0 env TAMIS_LIBCUDA=/nonexistent/libcuda.so.1 TAMIS_LIBNVRTC=/nonexistent/libnvrtc.so "$tamis" doctor --json
out_has '"gpu_ready":false,"can_compile":false'
: >empty.so
want 0 env TAMIS_LIBNVRTC="$work/empty.so" "$tamis" doctor
out_has '--  nvrtc'

if [ -n "${TAMIS_FAKE_CUDA:-}" ]; then
    export TAMIS_LIBCUDA="$TAMIS_FAKE_CUDA"
    want 0 env FAKE_CUDA_DEVICES=2 FAKE_CUDA_CC=9.0 "$tamis" doctor
    out_has 'ok  driver'
    out_has 'ok  cuda:0'
    out_has 'ok  cuda:1'
    out_has 'gpu ready: yes'
    want 0 env FAKE_CUDA_CC=7.5 "$tamis" doctor
    out_has '!!  cuda:0'
    out_has 'gpu ready: no'
    want 0 env FAKE_CUDA_VERSION=11080 "$tamis" doctor
    out_has '!!  driver'
    out_has 'gpu ready: no'
    want 0 env FAKE_CUDA_DEVICES=0 "$tamis" doctor
    out_has 'gpu ready: no'
    if can_compile; then
        want 0 env FAKE_CUDA_VERSION=99000 "$tamis" doctor
        out_has 'ok  fit'
        out_has 'gpu ready: yes'
        want 0 env FAKE_CUDA_VERSION=12000 TAMIS_CACHE_DIR="$work/cache" "$tamis" doctor
        "$tamis" doctor --json | grep -q '"what":"nvrtc","state":"ok","text":"13' && out_has '!!  fit'
    fi
    unset TAMIS_LIBCUDA
else
    skip "drivers: no TAMIS_FAKE_CUDA"
fi

# ---- the data folder: by the environment, beside the program, or the source tree
mkdir -p root/bin root/share/tamis/runtime own/runtime
cp "$tamis" root/bin/tamis
cp -R "$source_dir/templates" "$source_dir/specs" root/share/tamis
for header in kernel drift block pattern; do cp "$source_dir/runtime/${header}_args.h" root/share/tamis/runtime; done
cp -R root/share/tamis/. own
want 0 root/bin/tamis doctor
out_has "root/share/tamis (installed)"
want 0 root/bin/tamis spec check llama-3.1-8b
want 0 env TAMIS_DATA_DIR="$work/own" root/bin/tamis doctor
out_has "$work/own (TAMIS_DATA_DIR)"
want 1 env TAMIS_DATA_DIR="$work/nowhere" "$tamis" doctor
out_has '!!  data'
out_has 'TAMIS_DATA_DIR'

# ---- the cache: absent, present, damaged, without a place
want 0 "$tamis" doctor
out_has 'not made yet'
mkdir -p cache
echo text >cache/cache.tamis
want 0 "$tamis" doctor
out_has '--  cache'
want 0 env -u TAMIS_CACHE_DIR -u XDG_CACHE_HOME -u HOME "$tamis" doctor
out_has '--  cache'
want 0 env TAMIS_CACHE_DIR=/dev/null/x "$tamis" doctor
out_has '--  cache'
finish

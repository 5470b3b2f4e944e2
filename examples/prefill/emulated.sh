#!/bin/sh
# emulated.sh CHECK_PREFILL TAMIS: check_prefill on GPUs that are none: TAMIS_EMULATE_CUDA is a libcuda and an NVRTC that run
# kernels on the CPU, TAMIS_FAKE_CUBLAS a cuBLAS in plain C. So what a GPU would be asked for is done, and its results checked:
# with the portable kernels, and with Hopper's.
set -eu

golden=$(cd "$(dirname "$0")" && pwd)/golden
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/small.yaml" <<'END'
name: small
layers: 2
dtypes: [bf16, fp16]
sparse_layers: [1]
attention: {q_heads: 2, kv_heads: 1, head_dim: 64}
selection: {ratio: 0.5, min_tokens: 16}
tiles: [tiles/sm_90a.yaml, tiles/portable.yaml, tiles/pattern_sm_90a.yaml, tiles/pattern.yaml]
END
export TAMIS_CACHE_DIR="$work/cache" TAMIS_LIBCUDA="$TAMIS_EMULATE_CUDA" TAMIS_LIBNVRTC="$TAMIS_EMULATE_CUDA"
export TAMIS_LIBCUBLAS="$TAMIS_FAKE_CUBLAS"
for arch in sm_80 sm_90a; do
    if [ $arch = sm_80 ]; then FAKE_CUDA_CC=8.0; else FAKE_CUDA_CC=9.0; fi
    export FAKE_CUDA_CC
    echo "emulated: $arch"
    "$2" gen "$work/small.yaml" -o "$work/$arch.tamis" --arch $arch --defaults-only -q >/dev/null
    "$1" "$golden" 0 "$work/$arch.tamis"
done

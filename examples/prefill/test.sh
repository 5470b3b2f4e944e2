#!/bin/sh
# test.sh PREFILL TAMIS STORE: the program itself: options, a small model on the CPU, its drifts to `tamis layers`; and, where
# kernels can be compiled and TAMIS_FAKE_CUDA, TAMIS_FAKE_CUBLAS name libraries that are none, what it asks of a GPU.
# STORE: kernels' sources of a spec with sparse layers.
set -eu

prefill=$1
tamis=$2
store=$3
golden=$(cd "$(dirname "$0")" && pwd)/golden
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

fail() {
    echo "FAILED: $*" >&2
    if [ -f out ]; then sed 's/^/  out: /' out >&2; fi
    if [ -f err ]; then sed 's/^/  err: /' err >&2; fi
    exit 1
}
want() { # want CODE COMMAND...
    wanted=$1
    shift
    code=0
    "$@" >out 2>err </dev/null || code=$?
    [ "$code" -eq "$wanted" ] || fail "exit code $code, not $wanted, of: $*"
}
has() { grep -qF -e "$2" "$1" || fail "$1 lacks \"$2\""; }
small() { # small OPTION...: the small model, on the CPU
    "$prefill" --device cpu --weights "$golden/llama3_rope" --min-tokens 16 "$@"
}

# ---- options
want 0 "$prefill" --help
has out '--hash-attention'
want 2 "$prefill" --tokens 0 --device cpu
has err '--tokens: "0" is no whole number from 1'
want 2 "$prefill" --ratio 1.5 --device cpu
want 2 "$prefill" --mode half --device cpu
want 2 "$prefill" --nonsense
want 2 "$prefill"
has err 'without --store'
want 1 "$prefill" --device cpu --weights absent
has err 'absent/config.json'
want 1 small --layers 0,2
has err 'layers from 0 to 1'
want 1 small --store absent.tamis
want 1 small --ids "$golden/llama3_rope/ids.txt" --tokens 97 --layers 0
has err 'has 96 token ids, --tokens asks for 97'

# ---- configurations that are none, or another model's
config() { sed "$1" "$golden/llama3_rope/config.json" >config.json; }
refused() { # refused EDIT MESSAGE
    config "$1"
    want 1 "$prefill" --device cpu --config config.json --tokens 8
    has err "$2"
}
refused 's/"silu"/"gelu"/' 'hidden_act'
refused 's/"llama",/"qwen3",/' 'model_type'
refused 's/"attention_bias": false/"attention_bias": true/' 'attention_bias'
refused 's/"rope_type": "llama3"/"rope_type": "yarn"/' 'rope_type'
refused 's/"hidden_size": 32/"hidden_size": "32"/' 'hidden_size'
refused '/"intermediate_size"/d' 'intermediate_size is missing'
refused 's/"low_freq_factor": 1.0/"low_freq_factor": 9.0/' 'scaling'
# shellcheck disable=SC2016 # sed's
refused '$d' 'is no JSON object'

# ---- weights that are cut, or of other sizes
mkdir broken
cp "$golden"/tied/* broken
head -c 5000 "$golden/tied/model.safetensors" >broken/model.safetensors
want 1 "$prefill" --device cpu --weights broken --tokens 8 --mode dense
has err 'does not lie in the file'
head -c 100 "$golden/tied/model.safetensors" >broken/model.safetensors
want 1 "$prefill" --device cpu --weights broken --tokens 8 --mode dense
has err 'or a cut one'
cp "$golden/tied/model.safetensors" broken
sed -i 's/"vocab_size": 80/"vocab_size": 88/' broken/config.json
want 1 "$prefill" --device cpu --weights broken --tokens 8 --mode dense
has err 'model.embed_tokens.weight is 80 by 32, the configuration says 88 by 32'

# ---- runs
want 0 small --tokens 200 --layers 1 --ratio 0.25 --drift drift.csv
has out '2 layers of 32, 2 query and 1 KV heads of 64'
has out 'sparse: attention '
grep -q '^ *1 *yes .*0\.[0-9]*$' out || fail "layer 1 is not sparse"
want 0 "$tamis" layers drift.csv
has out ' of 2 with a drift of at most '
want 0 small --tokens 200 --layers 0-1 --json --hash-attention
has out '{"schema":1,"type":"prefill","device":"CPU","layers":2,'
has out '"sparse_layers":[0,1],"dense":{"milliseconds":'
has out '"attention_hash":["'
hashes() {
    sed 's/.*"dense"/"dense"/; s/"milliseconds":[^,]*,//g
         s/"\(projections\|attention\|output\|mlp\|drift\)":\[[^]]*\],*//g' out
}
hashes >first
want 0 small --tokens 200 --layers 0-1 --json --hash-attention --repeat 2
hashes >second
cmp -s first second || fail "two runs differ"
want 0 small --tokens 96 --ids "$golden/llama3_rope/ids.txt" --mode dense --json
has out '"sparse_layers":[],"dense":{'
largest=$(awk '{ if (NR == 1 || $1 > most) { most = $1; at = NR - 1 } } END { print at }' "$golden/llama3_rope/logits.txt")
has out "\"token\":$largest,"
want 0 small --tokens 96 --mode dense --peer-ms 100
grep -q '^peer  *2[0-9][0-9]\.[0-9]* ms to the first token, dense with attention of 100.000 ms a layer$' out || fail "no peer"
want 2 "$prefill" --device cpu --peer-ms 0
# The spec's own layers are of a model of 32; a model of two has none of them.
want 1 small --store "$store"
has err 'the spec has a sparse layer 15, the model 2 layers'

# ---- the spec's pattern: in all layers of a sparse run, among the kept tokens of the sparse ones; a wide window is none
spec() { # spec SPARSE_LAYERS WINDOW
    cat >pattern.yaml <<END
name: pattern
layers: 2
$1
attention: {q_heads: 2, kv_heads: 1, head_dim: 64}
selection: {ratio: 0.5, min_tokens: 16}
pattern: {kind: sliding, sink_tokens: 4, window_tokens: $2}
archs: [sm_80]
tiles: [tiles/portable.yaml, tiles/pattern.yaml]
END
    want 0 "$tamis" gen pattern.yaml -o pattern.tamis --defaults-only --no-compile
}
patterned() { want 0 small --store pattern.tamis --tokens 200 --json --hash-attention "$@"; }
# Of the sparse run, a layer after the other.
attention() { sed 's/.*"sparse":{//; s/.*"attention_hash":\[\([^]]*\)\].*/\1/' out; }
spec 'sparse_layers: [1]' 4096
patterned
has out '"pattern":"sliding","sparse_layers":[1]'
attention >wide
patterned --no-pattern
has out '"pattern":"none","sparse_layers":[1]'
attention >without
cmp -s wide without || fail "a window of all tokens is not the run without it"
spec 'sparse_layers: [1]' 20
patterned
attention >narrow
[ "$(cut -d, -f1 narrow)" != "$(cut -d, -f1 without)" ] || fail "the pattern is not in the dense layer"
spec '' 20
patterned
has out '"pattern":"sliding","sparse_layers":[]'
attention >alone
[ "$(cut -d, -f1 narrow)" = "$(cut -d, -f1 alone)" ] || fail "the dense layer has not the pattern alone"
[ "$(cut -d, -f2 narrow)" != "$(cut -d, -f2 alone)" ] || fail "the sparse layer has not both"
want 0 small --store pattern.tamis --tokens 200
has out 'with the block pattern sliding, of the spec, in all layers'
want 1 small --store pattern.tamis --tokens 200 --no-pattern
has err 'names no sparse layers'

# ---- what is asked of a GPU, by libraries that are none: sizes, strides and launches; nothing is computed
if [ -z "${TAMIS_FAKE_CUDA:-}" ] || [ -z "${TAMIS_FAKE_CUBLAS:-}" ] ||
    ! "$tamis" doctor --json 2>/dev/null | grep -q '"can_compile":true'; then
    echo "test: skipped what is asked of a GPU: no NVRTC, or no libraries that are none"
    exit 0
fi
export TAMIS_CACHE_DIR="$work/cache" FAKE_CUBLAS_SKIP=1 TAMIS_LIBCUBLAS="$TAMIS_FAKE_CUBLAS"
cat >small.yaml <<'END'
name: small
layers: 2
sparse_layers: [1]
attention: {q_heads: 2, kv_heads: 1, head_dim: 64}
selection: {ratio: 0.5, min_tokens: 16}
archs: [sm_80]
tiles: [tiles/portable.yaml]
END
want 0 "$tamis" gen small.yaml -o small.tamis --defaults-only
export TAMIS_LIBCUDA="$TAMIS_FAKE_CUDA" FAKE_CUDA_CC=8.0
want 0 "$prefill" --store small.tamis --weights "$golden/llama3_rope" --tokens 300 --json
has out '"device":"Fake GPU 8.0"'
has out '"device_used_bytes":'
want 0 "$prefill" --store small.tamis --weights "$golden/llama3_rope" --tokens 300 --mode dense
has out '; of the device '
want 0 "$prefill" --store small.tamis --weights "$golden/llama3_rope" --tokens 300 --json
has out '"sparse_layers":[1],"dense":{'
FAKE_CUDA_FAIL=cuLaunchKernel:5:700 want 1 "$prefill" --store small.tamis --weights "$golden/llama3_rope" --tokens 300
has err 'prefill: '
TAMIS_LIBCUBLAS=$work/absent.so want 1 "$prefill" --store small.tamis --weights "$golden/llama3_rope" --tokens 300
has err 'libcublas.so.13: cannot be opened'

echo "test: passed"

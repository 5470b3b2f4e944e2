#!/bin/sh
# spec_import.sh: spec import: the models of specs/ from their published configurations, what it warns of, and bad files.
# shellcheck source=tests/cli/lib/common.sh
. "$(dirname "$0")/lib/common.sh"

# config MEMBERS [FILE]: a configuration with a line a member.
config() { printf '{\n  %s\n}\n' "$(echo "$1" | tr -d '\n' | sed 's/; */,\n  /g')" >"${2:-config.json}"; }

# ---- the models of specs/: the same geometry
geometry() { # geometry SPEC FILE
    want 0 "$tamis" spec show "$1" --json
    sed 's/.*"layers":/"layers":/; s/"sparse_layers":"[^"]*",//; s/"dtypes":\[[^]]*\],//; s/"coverage":[^,]*,//' out >"$2"
    grep -q '"q_heads":.*"tiles":\[{' "$2" || fail "no geometry of $1"
}
imports_as() { # imports_as NAME MEMBERS: no warnings but those wanted of the file err
    config "$2"
    want 0 "$tamis" spec import config.json
    cp out "imported.yaml"
    cp err warnings
    out_has "name: $1"
    want 0 "$tamis" spec check imported.yaml
    geometry imported.yaml imported
    geometry "$source_dir/specs/${3:-$1}.yaml" published
    same imported published
}
no_warning() { [ ! -s warnings ] || fail "a warning: $(cat warnings)"; }
warning() { grep -qF "$1" warnings || fail "no warning \"$1\""; grep -q "^# .*$1" imported.yaml || fail "no comment \"$1\""; }

imports_as llama-3.1-8b '"_name_or_path": "meta-llama/Llama-3.1-8B";"model_type": "llama";"hidden_size": 4096;
    "num_attention_heads": 32;"num_hidden_layers": 32;"num_key_value_heads": 8;
    "rope_scaling": {"factor": 8.0, "rope_type": "llama3"};"eos_token_id": [1, 2];"torch_dtype": "bfloat16"'
no_warning
imports_as llama-3.1-70b '"_name_or_path": "Llama-3.1-70B/";"hidden_size": 8192;"num_attention_heads": 64;
    "num_hidden_layers": 80;"num_key_value_heads": 8;"dtype": "bfloat16"'
no_warning
imports_as mistral-nemo-instruct-2407 '"_name_or_path": "mistralai/Mistral-Nemo-Instruct-2407";"head_dim": 128;
    "hidden_size": 5120;"num_attention_heads": 32;"num_hidden_layers": 40;"num_key_value_heads": 8;"sliding_window": null;
    "torch_dtype": "bfloat16"' mistral-nemo-12b
no_warning
imports_as phi-3-mini-128k-instruct '"_name_or_path": "Phi-3-mini-128k-instruct";"hidden_size": 3072;
    "max_position_embeddings": 131072;"num_attention_heads": 32;"num_hidden_layers": 32;"num_key_value_heads": 32;
    "sliding_window": 262144;"torch_dtype": "bfloat16"' phi-3-mini
no_warning
imports_as qwen3-8b '"_name_or_path": "Qwen/Qwen3-8B";"head_dim": 128;"hidden_size": 4096;"num_attention_heads": 32;
    "num_hidden_layers": 36;"num_key_value_heads": 8;"sliding_window": 4096;"use_sliding_window": false;
    "torch_dtype": "bfloat16"'
no_warning
imports_as gemma-2-9b '"_name_or_path": "google/gemma-2-9b";"attn_logit_softcapping": 50.0;"head_dim": 256;"hidden_size": 3584;
    "num_attention_heads": 16;"num_hidden_layers": 42;"num_key_value_heads": 8;"query_pre_attn_scalar": 256;
    "sliding_window": 4096;"max_position_embeddings": 8192;"torch_dtype": "float32"'
warning 'caps its attention logits'
warning 'sliding window of 4096 tokens'
warning 'torch_dtype is float32; bf16 was taken'
imports_as gpt-oss-20b '"_name_or_path": "openai/gpt-oss-20b";"model_type": "gpt_oss";"head_dim": 64;"hidden_size": 2880;
    "layer_types": ["sliding_attention", "full_attention"];"num_attention_heads": 64;"num_hidden_layers": 24;
    "num_key_value_heads": 8;"sliding_window": 128;"torch_dtype": "bfloat16"'
warning 'attention sinks'
warning '1 of 2 layers are not full attention'
warning 'sliding window of 128 tokens'

# ---- what is printed, and options
heads='"num_attention_heads": 8;"num_hidden_layers": 2'
base="$heads;\"head_dim\": 64;\"torch_dtype\": \"float16\""
mkdir 'A  Folder_1'
config "$base" 'A  Folder_1/config.json'
want 0 "$tamis" spec import 'A  Folder_1/config.json'
err_empty
for line in 'name: a-folder-1' 'dtypes: [fp16]' 'kv_heads: 8' 'coverage: 0.005' 'window: 128' 'pool: 7' 'min_tokens: 1024' \
    'archs: [sm_80, sm_86, sm_89, sm_90a, sm_100, sm_120]' 'tiles: [tiles/sm_90a.yaml, tiles/portable.yaml]'; do
    out_has "$line"
done
out_lacks 'scale'
config "$base;\"attention_multiplier\": 0.0078125;\"_name_or_path\": \"\""
want 0 "$tamis" spec import config.json --name my.model-2 --coverage 0.008
out_has 'name: my.model-2'
out_has 'coverage: 0.008'
out_has 'scale: 0.0078125'
want 0 "$tamis" spec import config.json --name x --json
json_ok spec_import
out_has '"name":"x","warnings":[],"text":"# x. '
for name in '' A 'a b' .a a_b "$(printf '%064d' 0)" 'a: b'; do
    want 2 "$tamis" spec import config.json --name "$name"
    out_empty
done
for coverage in 1 -1 nan x; do want 2 "$tamis" spec import config.json --coverage $coverage; done
want 2 "$tamis" spec import

config '"model_type": "vision";"hidden_size": 7;
    "text_config": {"head_dim": 96, "num_attention_heads": 6, "num_key_value_heads": 2, "cross_attention_layers": [3, 8]};
    "torch_dtype": "bfloat16"'
want 0 "$tamis" spec import config.json --name nested
out_has 'q_heads: 6'
out_has 'kv_heads: 2'
out_has 'head_dim: 96'
out_lacks 'layers:'
err_has 'no num_hidden_layers'
err_has 'cross attention'
out_has '# The model has layers of cross attention'
config "$heads;\"head_dim\": 64"
want 0 "$tamis" spec import config.json -q
err_has 'no torch_dtype'
for member in '"alibi": true' '"attention_sink_size": 4' '"add_cross_attention": true' '"attention_chunk_size": 8192'; do
    config "$base;$member"
    want 0 "$tamis" spec import config.json
    [ "$(wc -l <err)" -eq 1 ] || fail "not one warning of $member"
done

# ---- configurations that no spec can say: exit 3, one line with the place, nothing on stdout
refused() { # refused MESSAGE MEMBERS
    config "$2"
    want 3 "$tamis" spec import config.json
    out_empty
    err_has "config.json:$1"
    [ "$(wc -l <err)" -eq 1 ] || fail "not one line of $2"
}
refused '4:15: head_dim is 192, and tamis has kernels for 64, 96, 128 and 256' "$heads;\"head_dim\": 192"
refused '4:18: head_dim is 512, by hidden_size / num_attention_heads' "$heads;\"hidden_size\": 4096"
refused '4:18: hidden_size is 4097, a multiple' "$heads;\"hidden_size\": 4097"
refused ' there is no head_dim' "$heads"
refused ' there is no num_attention_heads' '"head_dim": 64'
refused '6:19: kv_lora_rank is given' "$base;\"kv_lora_rank\": 512"
refused '6:26: num_key_value_heads is 3, a divisor' "$base;\"num_key_value_heads\": 3"
refused '6:26: num_key_value_heads is [8, 4], an integer' "$base;\"num_key_value_heads\": [8, 4]"
refused '6:17: v_head_dim is 128' "$base;\"v_head_dim\": 128"
refused '6:18: text_config is [], an object' "$base;\"text_config\": []"
refused '6:18: layer_types is "all", a list' "$base;\"layer_types\": \"all\""
refused '6:28: query_pre_attn_scalar is 0,' "$base;\"query_pre_attn_scalar\": 0"
refused '6:28: query_pre_attn_scalar is 1e-9, a scale' "$base;\"query_pre_attn_scalar\": 1e-9"
for value in '"64"' 0 -64 64.5 1e99 true '{}' '[64]' '"\u0000"'; do
    refused "2:26: num_attention_heads is $value, an integer from 1 to 1024" "\"num_attention_heads\": $value;\"head_dim\": 64"
done
refused '2:15: no JSON object has this here' '"head_dim": NaN'
refused '2:3: no JSON object has this here' "'head_dim': 64"

# ---- files that are none
bad_file() { # bad_file CODE MESSAGE FILE
    want "$1" "$tamis" spec import "$3"
    out_empty
    err_has "$2"
    [ "$(wc -l <err)" -eq 1 ] || fail "not one line of $3"
}
config "$base" whole.json
bytes=$(wc -c <whole.json)
cut=0
while [ "$cut" -lt "$((bytes - 2))" ]; do
    head -c "$cut" whole.json >cut.json
    bad_file 3 ': the file ends where JSON does not' cut.json
    cut=$((cut + 1))
done
head -c 5000 "$tamis" >binary.json
bad_file 3 'binary.json:1:1: ' binary.json
printf '{"head_dim": 64}\n\000' >zero.json
bad_file 3 'zero.json:2:1: a zero byte' zero.json
printf '{"head_dim"\000: 64}' >zero.json
bad_file 3 'zero.json:1:12: a zero byte' zero.json
printf '[]' >list.json
bad_file 3 'list.json:1:1: ' list.json
{ printf '{"a": '; head -c 100000 /dev/zero | tr '\0' '['; } >deep.json
bad_file 3 'deep.json:1:23: ' deep.json
head -c 1100000 /dev/zero | tr '\0' ' ' >large.json
bad_file 3 'is larger than 1024 KiB' large.json
bad_file 1 'No such file' absent.json
bad_file 1 'cannot read' "$work"
# Standard input, whose name tells none of the model.
printf '{"num_attention_heads": 8, "head_dim": 64, "num_hidden_layers": 2}' >piped.json
"$tamis" spec import - --name piped <piped.json >out 2>err || fail "standard input is not read"
out_has 'name: piped'
"$tamis" spec import - <piped.json >out 2>err && fail "a spec without a name"
err_has '--name would'
finish

#!/bin/sh
# layers.sh: layers: the choice and how it is shown, bad drifts and where, and a spec's sparse_layers changed alone.
# shellcheck source=tests/cli/lib/common.sh
. "$(dirname "$0")/lib/common.sh"

# drifts COUNT LOW...: a CSV of so many layers, whose drift falls slowly, and is small for those that are LOW.
drifts() {
    awk -v count="$1" -v low=" $2 " 'BEGIN {
        print "layer,drift"
        for (i = 0; i < count; i++) printf "%d,%.6f\n", i, (index(low, " " i " ") ? 0.01 : 0.03) - 0.0001 * i
    }'
}
llama_low='15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30'
nemo_low='14 15 20 21 22 23 24 25 26 27 28 29 30 31 32 33 34 35 36 37'
drifts 32 "$llama_low" >llama.csv
drifts 40 "$nemo_low" >nemo.csv

# ---- drifts that imply the published lists give exactly those
want 0 "$tamis" layers llama.csv --spec llama-3.1-8b
out_has 'sparse layers: 15-30, 16 of 32 with a drift of at most 0.0085, the quantile 0.5'
out_has 'llama-3.1-8b.yaml: has the same'
err_empty
want 0 "$tamis" layers nemo.csv --spec mistral-nemo-12b
out_has 'sparse layers: 14,15,20-37, 20 of 40'
out_has 'mistral-nemo-12b.yaml: has the same'
want 0 "$tamis" layers nemo.csv --spec mistral-nemo-12b --delta 1
out_has 'sparse layers: 0-39, 40 of 40'
out_has 'mistral-nemo-12b.yaml: has 14,15,20-37'
want 0 "$tamis" layers nemo.csv --delta 0
out_has 'sparse layers: 37, 1 of 40'
[ "$(grep -c ' yes$' out)" -eq 1 ] || fail "a table of more than one sparse layer"
grep -q '^ *37 *0.0063 *yes$' out || fail "layer 37 is not in the table"

# ---- JSON, standard input, other line ends, any order, comments
want 0 "$tamis" layers nemo.csv --json
json_ok layers
out_has '"sparse_layers":"14,15,20-37"'
out_has '{"layer":13,"drift":0.0287,"sparse":false},{"layer":14,"drift":0.0086,"sparse":true}'
out_has '"spec":null,"spec_has":null,"output":null}'
cp out whole
{
    printf '\357\273\277# made by hand\r\n\r\nlayer,drift\r\n'
    sed 1d nemo.csv | sort -r | sed 's/,/ ,\t/; s/$/ \r/'
} >odd.csv
want 0 "$tamis" layers odd.csv --json
same out whole
"$tamis" layers - --json <nemo.csv >out || fail "standard input"
same out whole

# ---- bad drifts, each with its line
bad() { # bad MESSAGE TEXT
    printf '%b' "$2" >bad.csv
    want 3 "$tamis" layers bad.csv
    err_has "$1"
    out_empty
}
bad 'bad.csv: has no layer' ''
bad 'bad.csv: has no layer' '# nothing\nlayer,drift\n'
bad 'bad.csv:2: "0;0.5" is no "layer,drift"' 'layer,drift\n0;0.5\n'
bad 'bad.csv:1: "0,0.5,1" is no "layer,drift"' '0,0.5,1\n'
bad 'bad.csv:2: "layer,drift," is no' '0,1\nlayer,drift,\n'
bad 'bad.csv:2: the layer is "layer"' '0,1\nlayer,drift\n'
bad 'bad.csv:3: the layer is "-1"' 'layer,drift\n0,1\n-1,1\n'
bad 'bad.csv:1: the layer is "1024"' '1024,1\n'
bad 'bad.csv:1: the layer is "1.5"' '1.5,1\n'
bad 'bad.csv:1: the drift is "nan"' '0,nan\n'
bad 'bad.csv:1: the drift is "-0.5"' '0,-0.5\n'
bad 'bad.csv:1: the drift is "inf"' '0,inf\n'
bad 'bad.csv:1: the drift is "1e999"' '0,1e999\n'
bad 'bad.csv:1: the drift is ""' '0,\n'
bad 'bad.csv:1: the drift is "0x10"' '0,0x10\n'
bad 'bad.csv:1: the drift is "0.5abc"' '0,0.5abc\n'
bad 'bad.csv:3: layer 0 is given twice, first in line 1' '0,1\n1,1\n0,2\n'
bad 'bad.csv: layer 1 is missing, of 3' '0,1\n2,1\n'
bad 'bad.csv:1: is no line of text' '0,1\0\n'
awk 'BEGIN { for (i = 0; i < 300; i++) printf "1" }' >bad.csv
want 3 "$tamis" layers bad.csv
err_has 'bad.csv:1: is no line of text of at most 255 characters'
awk 'BEGIN { for (i = 0; i < 300000; i++) print "#" }' >bad.csv
want 3 "$tamis" layers bad.csv
err_has 'bad.csv: is larger than 256 KiB'
want 1 "$tamis" layers absent.csv
err_has 'absent.csv: No such file'
want 2 "$tamis" layers
want 2 "$tamis" layers nemo.csv --delta 1.5
want 2 "$tamis" layers nemo.csv --delta half

# ---- into a spec: the rest stays as it was, byte by byte
cat >head.yaml <<'END'
# My model, as of today: ümlaut.
name: my-model # its name
END
cat >tail.yaml <<'END'

attention: {q_heads: 8, kv_heads: 2, head_dim: 64} # the geometry
selection:
  coverage: 0.005   # what may be dropped
archs: [sm_80]
tiles: [tiles/portable.yaml]
# the end
END
edits() { # edits LINES WANTED_LINES: between head and tail
    { cat head.yaml; printf '%b' "$1"; cat tail.yaml; } >spec.yaml
    { cat head.yaml; printf '%b' "$2"; cat tail.yaml; } >wanted.yaml
    want 0 "$tamis" layers nemo.csv -o spec.yaml
    out_has 'spec.yaml: written'
    same spec.yaml wanted.yaml
    want 0 "$tamis" layers nemo.csv -o spec.yaml # once more: nothing changes
    out_has 'spec.yaml: has the same'
    same spec.yaml wanted.yaml
}
list='[14, 15, 20-37]'
edits 'layers: 40 # of attention\n' "layers: 40 # of attention\nsparse_layers: $list\n"
edits '' "sparse_layers: $list\n"
edits 'layers: 40\nsparse_layers: 15-30 # by hand\n' "layers: 40\nsparse_layers: $list # by hand\n"
edits 'sparse_layers:   [1, 2,\n   3] # old\nlayers: 40\n' "sparse_layers:   $list # old\nlayers: 40\n"
edits 'sparse_layers:\n- 1\n- 5-9\n# of the model\nlayers: 40\n' "sparse_layers: $list\n# of the model\nlayers: 40\n"
edits 'sparse_layers: "3" \nlayers: 40\r\n' "sparse_layers: $list \nlayers: 40\r\n"
# Lines of YAML end by more than a newline.
edits '# old\rlayers: 40\n' "# old\rlayers: 40\nsparse_layers: $list\n"
separator=$(printf '\342\200\250')
edits "# old${separator}layers: 40\n" "# old${separator}layers: 40\nsparse_layers: $list\n"
# One run of layers is no list; a spec without a newline at its end, one behind blanks, and one within braces.
printf '%s\nname: x' 'attention: {q_heads: 8, kv_heads: 2, head_dim: 64}
selection: {ratio: 0.5}
tiles: [tiles/portable.yaml]' >spec.yaml
cp spec.yaml wanted.yaml
printf '\nsparse_layers: 15-30\n' >>wanted.yaml
want 0 "$tamis" layers llama.csv -o spec.yaml
same spec.yaml wanted.yaml
sed 's/^/   /' wanted.yaml >indented.yaml
sed '/sparse/d' indented.yaml >spec.yaml
want 0 "$tamis" layers llama.csv -o spec.yaml
same spec.yaml indented.yaml
braces='{name: x, layers: 32%s, attention: {q_heads: 8, kv_heads: 2, head_dim: 64}, selection: {ratio: 0.5}, '
braces=$braces'tiles: [tiles/portable.yaml]}\n'
# shellcheck disable=SC2059 # the format is the text
printf "$braces" '' >spec.yaml
# shellcheck disable=SC2059
printf "$braces" ', sparse_layers: 15-30' >wanted.yaml
want 0 "$tamis" layers llama.csv -o spec.yaml
same spec.yaml wanted.yaml

# A copy of another spec; the file that is copied stays.
cp "$source_dir/specs/llama-3.1-8b.yaml" before.yaml
want 0 "$tamis" layers llama.csv --delta 0.25 --spec llama-3.1-8b -o copy.yaml --json
out_has '"spec_has":"15-30","output":"copy.yaml"'
same before.yaml "$source_dir/specs/llama-3.1-8b.yaml"
sed 's/^sparse_layers: 15-30 /sparse_layers: 23-30 /' before.yaml >wanted.yaml
same copy.yaml wanted.yaml
want 0 "$tamis" spec check copy.yaml

# ---- what cannot be: another model's, no spec, a bad one, a folder that cannot be written
want 3 "$tamis" layers nemo.csv --spec llama-3.1-8b -o copy.yaml
err_has 'has 32 layers, nemo.csv drifts of 40'
same copy.yaml wanted.yaml
want 1 "$tamis" layers nemo.csv -o absent.yaml
absent absent.yaml
printf 'name: x\n' >spec.yaml
want 3 "$tamis" layers nemo.csv -o spec.yaml
err_has 'spec.yaml:1:1: '
want 1 "$tamis" layers llama.csv --spec llama-3.1-8b -o no/such/folder.yaml
err_has 'folder.yaml: cannot be written'
[ -z "$(find . -name '*.tmp')" ] || fail "a temporary file is left"

# ---- what a file holds does not reach the terminal as it is: a message is one line, without its escapes; JSON has it all
escape=$(printf '\033')
printf '0,0.5%s[2J\n' "$escape" >escape.csv
want 3 "$tamis" layers escape.csv --json
err_has 'the drift is "0.5?[2J"'
out_has '0.5\u001b[2J'
want 1 "$tamis" layers llama.csv --spec llama-3.1-8b -o "$(printf 'two\nlines')/my.yaml"
err_has 'two?lines/my.yaml: cannot be written'
[ "$(wc -l <err)" -eq 1 ] || fail "a message of two lines"

finish

#!/bin/sh
# calibrate.sh: calibrate: losses, speeds and the choice, bad results and where, and a spec's selection changed alone.
# shellcheck source=tests/cli/lib/common.sh
. "$(dirname "$0")/lib/common.sh"

head='setting,task,haystack,length,depth,sample,tokens,accuracy,nll,prefill_ms,method,policy,amount,scope'
head=$head,window,pool,min_tokens,sparse_layers,layers,said
rows() { # rows SETTING METHOD POLICY AMOUNT LAYERS MS RIGHT: ten prompts of two tasks, of which the first RIGHT are right
    awk -v s="$1" -v method="$2" -v policy="$3" -v amount="$4" -v layers="$5" -v ms="$6" -v right="$7" 'BEGIN {
        for (i = 0; i < 10; i++)
            printf "\"%s\",%s,text,4096,,%d,4000,%d,,%s,%s,%s,%s,head,128,7,1024,\"%s\",32,\"he said \"\"%d\"\",\nor so\"\n",
                s, i < 5 ? "single" : "common", i % 5, i < right, ms, method, policy, amount, layers, i
    }'
}
{
    echo "$head"
    rows dense dense dense '' '' 100 10
    rows 'sparse:coverage=.005' sparse coverage 0.005 15-30 80 10
    rows 'sparse:coverage=.02' sparse coverage 0.02 14,15,20-31 62.5 9
    rows 'sparse:ratio=.25' sparse ratio 0.25 0-31 40 7
    rows 'evict:ratio=.25' evict ratio 0.25 0-31 30 10 # another method: no candidate
    echo 'dense,perplexity,a.txt,4096,,0,4000,,2.5,100,dense,dense,,head,128,7,1024,,32,'
} >results.csv

# ---- the choice
want 3 "$tamis" calibrate results.csv --length 100
err_has 'has no dense prompts of length 100'
want 0 "$tamis" calibrate results.csv
grep -q '^sparse:ratio=.25  *10  *0.7000  *0.3000  *0.1528  *0.6000  *common 4096  *2.50x  *loses more$' out ||
    fail "the row of ratio"
grep -q '^sparse:coverage=.02  *10  *0.9000  *0.1000  *0.1000  *0.2000  *common 4096  *1.60x  *loses more$' out ||
    fail "the row of .02"
grep -q '^sparse:coverage=.005  *10  *1.0000  *0.0000  *0.0000  *0.0000  .*1.25x  *chosen$' out || fail "the row of .005"
out_has 'coverage: 0.005, sparse_layers: 15-30'
grep -q evict out && fail "another method is a candidate"
want 0 "$tamis" calibrate results.csv --loss 0.1
out_has 'coverage: 0.02, sparse_layers: 14,15,20-31'
want 0 "$tamis" calibrate results.csv --loss 0.1 --each
out_has 'coverage: 0.005,'
want 0 "$tamis" calibrate results.csv --loss 0.3
out_has 'ratio: 0.25, sparse_layers: 0-31'
sed '/sparse:coverage=.005/s/,1,,80/,0,,80/' results.csv >bad.csv
want 1 "$tamis" calibrate bad.csv
err_has 'no setting holds a loss of 0.01: nothing is chosen'
out_has 'loses more'
# What is not faster than dense is not chosen, and at which length what is chosen is slower is said.
sed '/sparse:coverage=.005/s/,80,sparse/,101,sparse/' results.csv >bad.csv
want 1 "$tamis" calibrate bad.csv
err_has 'no setting holds a loss of 0.01 and is faster than dense: nothing is chosen'
out_has 'not faster than dense'
{
    cat results.csv
    rows dense dense dense '' '' 75 10 | sed 's/,4096,/,8192,/'
    rows 'sparse:coverage=.005' sparse coverage 0.005 15-30 80 10 | sed 's/,4096,/,8192,/'
} >mixed.csv
want 0 "$tamis" calibrate mixed.csv
err_has 'sparse:coverage=.005: at 8192 tokens it is 0.94x as fast as dense'
out_has 'coverage: 0.005, sparse_layers: 15-30'
want 0 "$tamis" calibrate mixed.csv --length 4096
err_empty
want 0 "$tamis" calibrate results.csv --json
json_ok calibrate
out_has '"setting":"sparse:coverage=.02","policy":"coverage","amount":"0.02","sparse_layers":"14,15,20-31","prompts":10,'
out_has '"verdict":"chosen","output":null}'
"$tamis" calibrate - <results.csv >piped || fail "standard input"
"$tamis" calibrate results.csv >out && same out piped
tr -d '\r' <results.csv | sed 's/$/\r/' >dos.csv
"$tamis" calibrate dos.csv >out && same out piped

# A setting that lacks prompts is not chosen; one more, or a second time, is.
sed '/^"sparse:coverage=.005",single,text,4096,,3,/,+1d' results.csv >bad.csv
want 1 "$tamis" calibrate bad.csv
out_has 'prompts are missing'

# ---- bad results, each with its line
bad() { # bad MESSAGE SED_SCRIPT
    sed "$2" results.csv >bad.csv
    want 3 "$tamis" calibrate bad.csv
    err_has "$1"
    out_empty
}
bad 'bad.csv: has no column accuracy' '1s/accuracy/right/'
bad 'bad.csv: has no dense prompts' '/^"dense"/,+1d'
bad 'bad.csv:2: accuracy is "2", a number from 0 to 1' '2s/,1,,100/,2,,100/'
bad 'bad.csv:2: accuracy is "nan"' '2s/,1,,100/,nan,,100/'
bad 'bad.csv:2: prefill_ms is "-1", a number of 0 or more' '2s/,1,,100/,1,,-1/'
bad 'bad.csv:2: length is "long"' '2s/4096/long/'
bad 'bad.csv:22: policy is "most", coverage, ratio or count' '22s/,coverage,/,most,/'
bad 'bad.csv:22: scope is "world"' '22s/,head,/,world,/'
bad 'bad.csv:22: sparse_layers is ""' '22s/15-30//'
bad 'bad.csv:24: has other layers or tokens than line 22' '24s/15-30/15-29/'
bad 'bad.csv:2: a model of 31 layers' '2s/,32,/,31,/'
bad 'bad.csv:4: the prompt of line 2 a second time' '4s/,,1,4000/,,0,4000/'
bad 'bad.csv:2: a quote within a field' '2s/single/sin"gle/'
bad_end() { # bad_end MESSAGE TEXT: behind the rest
    { cat results.csv && echo "$2"; } >bad.csv
    want 3 "$tamis" calibrate bad.csv
    err_has "$1"
}
bad_end 'bad.csv:103: has 3 fields, the first line 20' 'a,b,c'
bad_end 'bad.csv:103: a quote is opened and not closed' '"open'
: >bad.csv
want 3 "$tamis" calibrate bad.csv
err_has 'bad.csv: has no column setting'
want 1 "$tamis" calibrate absent.csv
err_has 'absent.csv: No such file'
want 2 "$tamis" calibrate results.csv --loss 1.5
want 2 "$tamis" calibrate

# ---- into a spec: the rest stays as it was, byte by byte
cp "$source_dir/specs/llama-3.1-8b.yaml" before.yaml
want 0 "$tamis" calibrate results.csv --loss 0.1 --spec llama-3.1-8b -o copy.yaml
out_has 'copy.yaml: written'
sed 's/^sparse_layers: 15-30 /sparse_layers: [14, 15, 20-31] /; s/coverage: 0.005 /coverage: 0.02 /' before.yaml >wanted.yaml
grep -v '^# calibrated: ' copy.yaml >rest.yaml
same rest.yaml wanted.yaml
grep -B 4 '^selection:' copy.yaml | grep -c '^# calibrated: ' >number
[ "$(cat number)" = 3 ] || fail "the evidence is not above the selection"
grep -qx '# calibrated: sparse:coverage=.02' copy.yaml || fail "no setting in the evidence"
grep -qx '# calibrated: accuracy 0.9000, dense 1.0000: a loss of 0.1000, standard error 0.1000, of 10 prompts' copy.yaml ||
    fail "no loss"
grep -qx '# calibrated: the fastest within a loss of 0.1: prompts 1.60x as fast as dense' copy.yaml || fail "no speed"
want 0 "$tamis" spec check copy.yaml
# In place, by another policy: the evidence is replaced, not added to.
want 0 "$tamis" calibrate results.csv --loss 0.3 -o copy.yaml
[ "$(grep -c '^# calibrated: ' copy.yaml)" = 3 ] || fail "old evidence stays"
grep -q '^  ratio: 0.25 # drop' copy.yaml || fail "no ratio"
want 0 "$tamis" calibrate results.csv --loss 0.3 -o copy.yaml
cp copy.yaml twice.yaml
want 0 "$tamis" calibrate results.csv --loss 0.3 -o copy.yaml
same copy.yaml twice.yaml
same before.yaml "$source_dir/specs/llama-3.1-8b.yaml"
# Within braces, with and without a line end behind them.
braces='{name: x, layers: 32, attention: {q_heads: 8, kv_heads: 2, head_dim: 64}'
braces="$braces, selection: {count: 5, pool: 7}, tiles: [tiles/portable.yaml]}"
printf '%s' "$braces" >spec.yaml
want 0 "$tamis" calibrate results.csv -o spec.yaml
{
    echo "$braces" | sed 's/count: 5/coverage: 0.005/; s/layers: 32/&, sparse_layers: 15-30/'
    grep '^# calibrated: ' spec.yaml
} >wanted.yaml
same spec.yaml wanted.yaml
want 0 "$tamis" calibrate results.csv -o spec.yaml
same spec.yaml wanted.yaml

# ---- what cannot be: a spec that selects otherwise, another model's, none, a folder that cannot be written
sed 's/^  pool: 7/  pool: 9/' before.yaml >spec.yaml
cp spec.yaml wanted.yaml
want 1 "$tamis" calibrate results.csv -o spec.yaml
out_has 'the spec selects otherwise'
same spec.yaml wanted.yaml
want 3 "$tamis" calibrate results.csv --spec mistral-nemo-12b -o copy.yaml
err_has 'has 40 layers, results.csv is of a model of 32'
want 1 "$tamis" calibrate results.csv -o absent.yaml
absent absent.yaml
want 1 "$tamis" calibrate results.csv --spec llama-3.1-8b -o no/such/folder.yaml
err_has 'folder.yaml: cannot be written'
[ -z "$(find . -name '*.tmp')" ] || fail "a temporary file is left"

# A setting's name with an escape in it is shown without.
sed 's/sparse:coverage=.005/two\x1b[2J/' results.csv >escape.csv
want 0 "$tamis" calibrate escape.csv
out_has 'two?[2J '

finish

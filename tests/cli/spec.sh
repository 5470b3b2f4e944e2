#!/bin/sh
# spec.sh: spec check, spec show, spec keys.
# shellcheck source=tests/cli/lib/common.sh
. "$(dirname "$0")/lib/common.sh"

# ---- check
want 0 "$tamis" spec check "$source_dir"/specs/*.yaml
err_empty
[ "$(grep -c ': valid: ' out)" -eq "$(find "$source_dir/specs" -maxdepth 1 -name '*.yaml' | wc -l)" ] ||
    fail "not a line a spec"
want 0 "$tamis" spec check llama-3.1-8b --json
json_ok spec_check
out_has '"valid":true'

sed 's/window: 128/window: 0/' "$source_dir/specs/llama-3.1-8b.yaml" >bad.yaml
line=$(grep -n 'window: 0' bad.yaml | cut -d: -f1)
want 3 "$tamis" spec check bad.yaml
out_empty
grep -q "^bad.yaml:$line:[0-9]*: " err || fail "no file:line:column"
want 3 "$tamis" spec check bad.yaml --json
json_ok spec_check
out_has "\"line\":$line,"
out_has '"valid":false'

# One bad spec among good ones: all are looked at.
want 3 "$tamis" spec check qwen3-8b bad.yaml llama-3.1-8b
out_has 'qwen3-8b: valid'
out_has 'llama-3.1-8b: valid'
want 1 "$tamis" spec check llama-3.1-8
err_has 'did you mean "llama-3.1-8b"?'
want 1 "$tamis" spec check ./llama-3.1-8b
err_has 'no such file'
want 1 "$tamis" spec check "$work"

# Names that JSON must escape, and one that is no UTF-8.
for name in 'a "b" \ c' 'tab	here' "$(printf 'new\nline')" "$(printf 'bell\007')" "$(printf 'latin\351')" 'ünïcödé'; do
    cp bad.yaml "$name.yaml"
    want 3 "$tamis" spec check "./$name.yaml" --json
    json_ok spec_check
done

# A name means a file of this folder before one of specs/.
cp bad.yaml llama-3.1-8b.yaml
want 3 "$tamis" spec check llama-3.1-8b
err_has "llama-3.1-8b.yaml:$line:"
rm llama-3.1-8b.yaml

# Every bad spec of the tests: exit 3 and its own message, through the tool.
if [ -d "$source_dir/tests/bad_specs" ]; then
    cd "$source_dir/tests/bad_specs" || exit 1
    for spec in *.yaml; do
        "$tamis" spec check "$spec" >"$work/out" 2>"$work/err"
        code=$?
        [ $code -eq 3 ] || { cd "$work" && fail "exit code $code of $spec"; }
        [ "$(wc -l <"$work/err")" -eq 1 ] || { cd "$work" && fail "more than a line about $spec"; }
        checks=$((checks + 1))
    done
    cd "$work" || exit 1
fi

# ---- show: a normal form, which reads back as itself
for spec in "$source_dir"/specs/*.yaml; do
    want 0 "$tamis" spec show "$spec"
    err_empty
    cp out normal.yaml
    want 0 "$tamis" spec check normal.yaml
    want 0 "$tamis" spec show normal.yaml
    same out normal.yaml
done
sed -e 's/coverage: 0.005/ratio: 0.1/' -e "s/head_dim: 128/head_dim: 128\n  scale: 0.0883883476/" \
    "$source_dir/specs/llama-3.1-8b.yaml" >ratio.yaml
want 0 "$tamis" spec show ratio.yaml
out_has '  ratio: 0.1'
out_has '  scale: 0.0883883476'
out_lacks 'coverage'
want 0 "$tamis" spec show ratio.yaml --json
json_ok spec
out_has '"policy":"ratio","ratio":0.1'
want 3 "$tamis" spec show bad.yaml
out_empty

# ---- keys
want 0 "$tamis" spec keys
for key in q_heads coverage tiles block_m; do out_has "$key"; done
want 0 "$tamis" spec keys --json
json_ok spec_keys
finish

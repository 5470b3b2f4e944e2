#!/bin/sh
# complete.sh: what `tamis complete` offers the shells. How these use it is in ../completion.sh.
# shellcheck source=tests/cli/lib/common.sh
. "$(dirname "$0")/lib/common.sh"

# offers WANTED WORD...: the candidates for the last WORD, without their descriptions, with blanks between.
offers() {
    offered=$1
    shift
    want 0 "$tamis" complete "$@"
    err_empty
    cut -f1 out | tr '\n' ' ' | sed 's/ $//' >candidates
    [ "$(cat candidates)" = "$offered" ] || fail "offers \"$(cat candidates)\", not \"$offered\", after: $command_line"
    checks=$((checks + 1))
}

# ---- commands: those of the help, at each level
names() { sed '1,/^Commands:/d; s/^  //; s/  .*//; s/.* //' "$1" | tr '\n' ' ' | sed 's/ $//'; }
"$tamis" --help >help
offers "$(names help) help" ''
offers "$(names help)" help ''
for command in $(names help); do
    "$tamis" "$command" --help >help
    grep -q '^Commands:' help || { echo "$command" >>commands && continue; }
    offers "$(names help)" "$command" ''
    offers "$(names help)" help "$command" ''
    for child in $(names help); do echo "$command $child" >>commands; done
done
[ "$(wc -l <commands)" -ge 20 ] || fail "there are more commands than $(wc -l <commands)"
want 0 "$tamis" complete cache ''
out_has "$(printf 'gc\t')"
offers 'import' spec im
offers '' frobnicate ''
offers '' spec frobnicate ''
offers '' help gen ''
offers '--version --help' -
offers '--help' cache --

# ---- options: those of the help, for every command
options() { "$tamis" "$@" --help | sed -n 's/^  ....\(--[a-z-]*\).*/\1/p' | tr '\n' ' ' | sed 's/ $//'; }
while read -r command; do
    # shellcheck disable=SC2086 # two words
    offers "$(options $command)" $command -
done <commands
offers '--arch' gen x --ar
offers ':files .yaml' gen x -- --ar
offers "$(options doctor)" doctor '' # nothing else can come

# ---- values: what the tool says would be right
# values OPTION COMMAND...: a wrong one is answered with what is offered.
values() {
    option=$1
    shift
    want 2 "$tamis" "$@" "$option" frobnicate
    right=$(sed -n 's/.*"frobnicate" is none of \(.*\)$/\1/p' err | tr -d ,)
    [ -n "$right" ] || fail "the message does not say what would be right: $command_line"
    offers "$right" "$@" "$option" ''
}
values --color doctor
values --arch gen x -o y
values --arch export x -o y
values --prefer merge x -o y
values --precision verify x
values --scope plan llama-3.1-8b
values --rigor tune x
values --scope bench operator --device cpu
for command in attention operator; do values --dtypes bench $command --device cpu; done
values --dtypes tune x
values --mask bench attention --device cpu
offers '64 96 128 256' bench attention --head-dims ''
want 2 "$tamis" bench attention --device cpu --head-dims 80
err_has '80 is none of 64, 96, 128, 256'
offers 'cpu cuda:0' run --device ''
offers 'none cpu cuda:0' plan x --device ''
offers 'fp32 fp64' run --input x --precision ''
offers '--precision=fp64' run --precision=fp6
offers 'sm_80,sm_100 sm_80,sm_120' gen x --arch sm_80,sm_1
offers '--arch=sm_80,sm_90a' gen x --arch=sm_80,sm_9
offers '' gen x --jobs ''
offers '' gen x --frobnicate=s
offers '' gen x --strict=
offers ':files .tamis' gen x -qo ''
offers '' gen x -qj ''
offers ':folders' run --input ''
offers ':files' bench attention --peers=''

# ---- operands
specs=$(cd "$source_dir/specs" && for spec in *.yaml; do printf '%s ' "${spec%.yaml}"; done)
offers "$specs:files .yaml" gen ''
offers 'qwen3-8b :files .yaml' gen llama-3.1-8b -o x q
offers "$specs:files .yaml :files .tamis" show ''
offers ':files .tamis' cache ls ''
offers ':files .json' spec import ''
offers ':folders' verify --device cpu a ''
# One operand is all that show takes; then come options.
want 0 "$tamis" complete show x ''
out_has '--variant'
out_lacks ':files'
# What follows an option that wants a value is no operand.
offers "$specs:files .yaml :files .tamis" show --arch sm_80 ''

# ---- variants: those of a store among the words
want 0 "$tamis" gen llama-3.1-8b -o a.tamis --arch sm_80,sm_86 --defaults-only --no-compile
"$tamis" show a.tamis --json | sed -n 's/.*"variant":"\([^"]*\)".*/\1/p' | sort -u >variants
[ "$(wc -l <variants)" -gt 4 ] || fail "too few variants"
want 0 "$tamis" complete show a.tamis --variant ''
cut -f1 out | sort >candidates
same candidates variants
offers "$(grep '^compress_d128' variants)" show a.tamis --variant compress_d128
offers '' show absent.tamis --variant ''
offers '' show --variant ''

# ---- no data folder, no arguments, a full standard output
want 0 env TAMIS_DATA_DIR="$work/none" "$tamis" complete gen ''
out_has ':files .yaml'
err_empty
want 2 "$tamis" complete
err_has 'unknown command complete'
if [ -c /dev/full ]; then
    "$tamis" complete '' >/dev/full 2>err
    code=$?
    [ $code -eq 1 ] || fail "exit code $code with a full standard output"
fi
finish

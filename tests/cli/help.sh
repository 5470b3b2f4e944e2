#!/bin/sh
# help.sh: help, version, unknown names, usage errors, colours, and that the manual page says what --help says.
# shellcheck source=tests/cli/lib/common.sh
. "$(dirname "$0")/lib/common.sh"

commands='gen
show
plan
run
verify
bench attention
bench operator
bench compose
bench ablate
bench host
tune
report
spec check
spec show
spec keys
spec import
layers
calibrate
cache ls
cache gc
cache verify
export
import
merge
doctor'
manual=$source_dir/gen/tamis.1

# ---- every command's help: to stdout, nothing to stderr, the same by all three ways
echo "$commands" | while read -r command; do
    # shellcheck disable=SC2086 # two words
    want 0 "$tamis" $command --help
    err_empty
    for part in 'Usage: tamis' 'Options:' 'Examples:' 'Exit codes:' '--json' '--quiet' '--color' '    0  ' '    2  '; do
        out_has "$part"
    done
    out_has "Usage: tamis $command"
    cp out first
    # shellcheck disable=SC2086
    want 0 "$tamis" help $command
    same out first
    # shellcheck disable=SC2086
    want 0 "$tamis" $command -h
    same out first
    # Options and exit codes of the help are in the manual.
    sed -n 's/^  .*--\([a-z-]*\).*/\1/p' first | sort -u | while read -r option; do
        grep -q -e "Fl -$option" -e ", -$option" "$manual" || fail "the manual lacks --$option of $command"
    done || exit 1
    sed -n '/^Exit codes:/,$s/^ *\([0-9][0-9]*\)  .*/\1/p' first | while read -r number; do
        grep -q "^\.It $number\$" "$manual" || fail "the manual lacks exit code $number of $command"
    done || exit 1
    awk '{ if (length($0) > 100) exit 1 }' first || fail "a line of $command --help is longer than 100"
done || exit 1

# What the manual has of options, some command has.
echo "$commands" | while read -r command; do
    # shellcheck disable=SC2086 # two words
    "$tamis" help $command
done >all_help
grep -o 'Fl -[a-z][a-z-]*' "$manual" | sed 's/Fl -//' | sort -u | while read -r option; do
    [ "$option" = version ] || grep -q -e "--$option" all_help || fail "no command has the manual's --$option"
done || exit 1

want 0 "$tamis" --version
grep -Eq '^tamis [0-9]+\.[0-9]+\.[0-9]+$' out || fail "--version says $(cat out)"
err_empty
for way in help --help -h; do
    want 0 "$tamis" $way
    out_has 'doctor'
    err_empty
done
want 0 "$tamis" help spec
out_has 'spec keys'
want 0 "$tamis" cache --help
out_has 'cache gc'

# ---- usage errors: exit 2, nothing on stdout, the nearest name
want 2 "$tamis"
out_empty
err_has 'a command is missing'
want 2 "$tamis" verfiy
err_has 'did you mean "verify"?'
want 2 "$tamis" frobnicate
err_has 'there are: gen, show'
want 2 "$tamis" spec
err_has 'check, show, keys, import'
want 2 "$tamis" spec chek
err_has 'did you mean "check"?'
want 2 "$tamis" help nothing
want 2 "$tamis" gen x --ouptut y
err_has 'did you mean "output"?'
err_has "Try 'tamis gen --help'."
out_empty
want 2 "$tamis" gen -x
err_has 'unknown option -x'
want 2 "$tamis" gen llama-3.1-8b
err_has 'STORE is missing'
want 2 "$tamis" gen -o y
err_has 'error: SPEC is missing'
want 2 "$tamis" import
err_has 'error: BUNDLE is missing'
want 2 "$tamis" gen x -o
err_has '-o needs a value'
want 2 "$tamis" gen x --output
err_has '--output needs a value'
want 2 "$tamis" gen x -o y --strict=yes
err_has 'takes no value'
for jobs in 0 -1 x 1.5 '' ' 1' 99999999999999999999; do
    want 2 "$tamis" gen x -o y -j "$jobs"
    err_has '--jobs'
done
want 2 "$tamis" gen x -o y --arch sm_81
err_has '"sm_81" is none of sm_80'
want 2 "$tamis" gen x -o y --arch ,
want 2 "$tamis" show
want 2 "$tamis" show a b
err_has 'one argument too many'
want 2 "$tamis" show x --source
err_has '--variant'
want 2 "$tamis" doctor x
want 2 "$tamis" doctor --color sometimes
err_has 'auto, always, never'
want 2 "$tamis" run --input x
err_has '--output'
want 2 "$tamis" run --output x
want 2 "$tamis" verify
absent y

# -- ends the options; options may follow operands, and short ones stand together.
want 1 "$tamis" spec check -- --json
err_has 'no spec --json'
want 0 "$tamis" spec check llama-3.1-8b -q --json
json_ok spec_check
want 2 "$tamis" spec keys -qz
err_has 'unknown option -z'

# An error is JSON too, and on stderr as text.
want 2 "$tamis" doctor x --json
json_ok error
out_has '"exit":2'
err_has 'one argument too many'

# ---- colours: none without a terminal, on demand always
escape=$(printf '\033')
want 2 "$tamis" verfiy
err_lacks "$escape"
want 1 "$tamis" spec check absent --color always
want 0 "$tamis" gen --help --color always
out_has "$escape"
want 0 "$tamis" gen --help --color never
out_lacks "$escape"
if command -v script >/dev/null 2>&1 && script -qec true /dev/null >/dev/null 2>&1; then
    on_terminal() { TERM=xterm script -qec "$1" /dev/null </dev/null >out 2>err; command_line=$1; }
    on_terminal "'$tamis' gen --help"
    out_has "$escape"
    on_terminal "NO_COLOR=1 '$tamis' gen --help"
    out_lacks "$escape"
    on_terminal "NO_COLOR= '$tamis' gen --help"
    out_has "$escape"
    on_terminal "NO_COLOR=1 '$tamis' gen --help --color always"
    out_has "$escape"
    on_terminal "TERM=dumb '$tamis' gen --help"
    out_lacks "$escape"
else
    skip "colours on a terminal: no script(1)"
fi

# ---- a full standard output is a failure
if [ -c /dev/full ]; then
    for arguments in 'spec keys' 'spec show llama-3.1-8b' '--help' 'doctor' '--version'; do
        # shellcheck disable=SC2086
        "$tamis" $arguments >/dev/full 2>err
        code=$?
        [ $code -eq 1 ] || fail "exit code $code with a full standard output: $arguments"
        err_has 'cannot write to standard output'
    done
fi
finish

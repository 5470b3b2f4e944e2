#!/usr/bin/env bash
# readme.sh BUILD: runs the README's code blocks as a reader would: the spec is saved and checked, the program compiled and
# run, the commands executed in order, in an empty folder with the tool on the path. The block with the two scripts is only
# checked for the scripts: one of them runs this.
set -euo pipefail

build=$(cd "${1:?usage: readme.sh BUILD}" && pwd)
root=$(cd "$(dirname "$0")/.." && pwd)
folder=$(mktemp -d "${TMPDIR:-/tmp}/tamis-readme-XXXXXX")
trap 'rm -rf "$folder"' EXIT
passed=0

# Blocks of a language, in order, into NAME.1, NAME.2 and so on; prints how many.
extract() {
    awk -v language="$1" -v name="$folder/$2" '
        $0 == "```" language { count++; inside = 1; next }
        $0 == "```" { inside = 0 }
        inside { print > (name "." count) }
        END { print count + 0 }' "$root/README.md"
}

must() { # WHAT COMMAND...
    local what=$1
    shift
    echo "-- $what: $*"
    "$@" || { echo "readme: $what does not work" >&2; exit 1; }
    passed=$((passed + 1))
}

if [ "$(extract yaml spec)" -ne 1 ] || [ "$(extract c program)" -ne 1 ] || [ "$(extract sh commands)" -lt 2 ]; then
    echo "readme: it should have one yaml block, one c block, and sh blocks" >&2
    exit 1
fi
[ "$(wc -l <"$folder/spec.1")" -le 12 ] || { echo "readme: the spec is longer than 12 lines" >&2; exit 1; }

while read -r script _; do
    must "script $script" test -x "$root/$script"
done <"$folder/commands.1"

cd "$folder"
ln -s "$root/tests" tests
export PATH=$build:$PATH
name=$(sed -n 's/^name: *//p' spec.1)
cp spec.1 "$name.yaml"
for block in commands.[2-9]; do
    while IFS= read -r command; do
        [ -z "$command" ] || must "command" bash -c "$command"
    done <"$block"
done

cp program.1 program.c
must "program, compiled" cc -std=c11 -Wall -Wextra -I"$root/runtime" program.c -o program -L"$build" -ltamis "-Wl,-rpath,$build"
must "program, run" ./program -1
echo "readme: $passed checks passed"

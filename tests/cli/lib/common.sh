# shellcheck shell=sh
# common.sh: what the scripts of tests/cli share; each sources it first. POSIX sh.
#
# From the environment: TAMIS_TOOL, the tool (else $1/tamis, of the build folder $1); TAMIS_SOURCE_DIR, this tree;
# TAMIS_FAKE_CUDA, a libcuda that is none (its tests are left out without). Each script has a folder of its own, $work,
# that goes when it ends.

set -u
tamis=${TAMIS_TOOL:-${TAMIS:-${1:-build}/tamis}}
source_dir=${TAMIS_SOURCE_DIR:-$(cd "$(dirname "$0")/../.." && pwd)}
case $tamis in /*) ;; *) tamis=$PWD/$tamis ;; esac
[ -x "$tamis" ] || { echo "no tool: $tamis" >&2; exit 1; }
work=$(mktemp -d) || exit 1
trap 'chmod -R u+w "$work" 2>/dev/null; rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
export TAMIS_CACHE_DIR="$work/cache" LC_ALL=C
unset NO_COLOR TAMIS_LIBCUDA TAMIS_DATA_DIR
cd "$work" || exit 1
# shellcheck disable=SC2034 # read by the scripts
reference=$source_dir/tests/reference
checks=0

fail() {
    echo "FAILED: $*" >&2
    if [ -f out ]; then sed 's/^/  out: /' out | head -n 20 >&2; fi
    if [ -f err ]; then sed 's/^/  err: /' err | head -n 20 >&2; fi
    exit 1
}

# want CODE COMMAND...: run it with stdout in the file out and stderr in err.
want() {
    wanted=$1
    shift
    command_line=$*
    "$@" >out 2>err </dev/null
    code=$?
    checks=$((checks + 1))
    [ "$code" -eq "$wanted" ] || fail "exit code $code, not $wanted, of: $command_line"
}

# out_has TEXT, err_has TEXT: a line holds it. out_lacks, err_lacks: none does.
out_has() { grep -qF -e "$1" out || fail "stdout lacks \"$1\" after: $command_line"; checks=$((checks + 1)); }
err_has() { grep -qF -e "$1" err || fail "stderr lacks \"$1\" after: $command_line"; checks=$((checks + 1)); }
out_lacks() { if grep -qF -e "$1" out; then fail "stdout has \"$1\" after: $command_line"; fi; checks=$((checks + 1)); }
err_lacks() { if grep -qF -e "$1" err; then fail "stderr has \"$1\" after: $command_line"; fi; checks=$((checks + 1)); }
out_empty() { [ ! -s out ] || fail "stdout is not empty after: $command_line"; checks=$((checks + 1)); }
err_empty() { [ ! -s err ] || fail "stderr is not empty after: $command_line"; checks=$((checks + 1)); }
same() { cmp -s "$1" "$2" || fail "$1 and $2 differ"; checks=$((checks + 1)); }
present() { [ -e "$1" ] || fail "there is no $1 after: $command_line"; checks=$((checks + 1)); }
absent() { [ ! -e "$1" ] || fail "there is a $1 after: $command_line"; checks=$((checks + 1)); }

# json_ok TYPE: stdout is JSON, one object a line, each with its schema; at least one is of that type.
json_ok() {
    [ -x json_lint ] || ${CC:-cc} -std=c11 -o json_lint "$source_dir/tests/cli/lib/json_lint.c" ||
        fail "json_lint does not compile"
    ./json_lint <out >lint 2>&1 || fail "$(cat lint) after: $command_line"
    out_has "\"schema\":1,\"type\":\"$1\""
}

# Whether kernels can be compiled here.
can_compile() { "$tamis" doctor --json 2>/dev/null | grep -q '"can_compile":true'; }

# skip WHAT: say that a part was left out.
skip() { echo "skipped: $*"; }

finish() { echo "$(basename "$0"): $checks checks passed"; }

#!/bin/sh
# header.sh: tamis.h alone compiles without a warning as C11 and as C++17, included twice, its initialisers used.
# CC and CXX name other compilers.
set -eu

runtime=$(dirname "$0")/../runtime
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cat >"$work/use.c" <<'END'
#include <tamis.h>
#include <tamis.h>

size_t use(void);
size_t use(void)
{
    tamis_context_options context = TAMIS_CONTEXT_OPTIONS_INIT;
    tamis_store_options store = TAMIS_STORE_OPTIONS_INIT;
    tamis_problem problem = TAMIS_PROBLEM_INIT;
    tamis_pattern pattern = TAMIS_PATTERN_INIT;
    tamis_blocks blocks = TAMIS_BLOCKS_INIT;
    tamis_plan_options plan = TAMIS_PLAN_OPTIONS_INIT;
    tamis_counters counters = TAMIS_COUNTERS_INIT;
    tamis_run_args args = TAMIS_RUN_ARGS_INIT;
    return context.struct_size + store.struct_size + problem.struct_size + pattern.struct_size + blocks.struct_size +
           plan.struct_size + counters.struct_size + args.struct_size;
}
END
cp "$work/use.c" "$work/use.cpp"

warnings="-pedantic -Wall -Wextra -Wshadow -Wundef -Werror"
# shellcheck disable=SC2086 # the list is to be split
"${CC:-cc}" -std=c11 $warnings -Wstrict-prototypes -Wmissing-prototypes -I"$runtime" -c "$work/use.c" -o "$work/c.o"
# shellcheck disable=SC2086
"${CXX:-c++}" -std=c++17 $warnings -Wold-style-cast -I"$runtime" -c "$work/use.cpp" -o "$work/cpp.o"
echo "header: tamis.h is clean C11 and C++17"

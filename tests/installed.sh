#!/usr/bin/env bash
# installed.sh BUILD: installs into a folder of its own, as a package would, and uses what lies there: the tool with its data,
# the library from a CMake project, and its pkg-config file.
set -euo pipefail

build=$(cd "${1:?usage: installed.sh BUILD}" && pwd)
folder=$(mktemp -d "${TMPDIR:-/tmp}/tamis-installed-XXXXXX")
trap 'rm -rf "$folder"' EXIT
prefix=$folder/prefix

cmake --install "$build" --prefix "$prefix" >"$folder/log"
mkdir "$folder/host"
cat >"$folder/host/CMakeLists.txt" <<'END'
cmake_minimum_required(VERSION 3.22)
project(host LANGUAGES C)
find_package(tamis 0.1 REQUIRED)
add_executable(host host.c)
target_link_libraries(host PRIVATE tamis::tamis)
END
cat >"$folder/host/host.c" <<'END'
#include <stdio.h>
#include <tamis.h>

int main(void)
{
    if (tamis_version() != TAMIS_VERSION_NUMBER) return 1;
    tamis_store *store = NULL;
    const tamis_status status = tamis_store_open(&store, "/nonexistent/of.tamis", NULL);
    printf("%s: %s\n", tamis_status_name(status), tamis_last_error());
    return status != TAMIS_ENOTFOUND;
}
END
cmake -S "$folder/host" -B "$folder/host/build" -DCMAKE_PREFIX_PATH="$prefix" >"$folder/log"
cmake --build "$folder/host/build" >"$folder/log"
"$folder/host/build/host"

# The tool must work from what was installed, and say so; the build's own tree is out of its sight here.
cd "$folder"
mv "$prefix" "$folder/moved"
"$folder/moved/bin/tamis" doctor >"$folder/doctor" 2>&1 || true
grep -q "$folder/moved/share/tamis" "$folder/doctor" || { cat "$folder/doctor"; echo "installed: the tool does not use the data beside it" >&2; exit 1; }
"$folder/moved/bin/tamis" gen llama-3.1-8b -o "$folder/a.tamis" --arch sm_80 --defaults-only --no-compile
test -s "$folder/a.tamis"
TAMIS_LIBNVRTC=$build/tests/fake_cuda.so "$folder/moved/bin/tamis" gen llama-3.1-8b -o "$folder/a.tamis" --arch sm_80 --defaults-only -q >"$folder/log"
"$folder/moved/bin/tamis" export --c "$folder/a.tamis" -o "$folder/kernels" >"$folder/log" # the launcher is data too

pc=$(find "$folder/moved" -name tamis.pc)
grep -q '^Version: 0\.1\.0$' "$pc" || { echo "installed: no version in tamis.pc" >&2; exit 1; }
find "$folder/moved" -path '*/man1/tamis*.1' | grep -q . || { echo "installed: no man page" >&2; exit 1; }
echo "installed: tool, library, packages"

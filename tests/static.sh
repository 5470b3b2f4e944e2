#!/usr/bin/env bash
# static.sh [BUILD]: builds the tool and check_gpu with TAMIS_STATIC_DEPS, as they are carried to a GPU machine, and looks at
# what they still load: the C library and no more. In build-static/; or in BUILD, whose objects need only be linked otherwise,
# until that is built again with TAMIS_STATIC_DEPS off.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
folder=${1:-$root/build-static}

cmake -S "$root" -B "$folder" -DTAMIS_STATIC_DEPS=ON -DTAMIS_BUILD_TESTS=ON -DCMAKE_BUILD_TYPE=Release
cmake --build "$folder" --parallel 2 --target tamis check_gpu
for program in "$folder/tamis" "$folder/tests/gpu/check_gpu"; do
    needed=$(objdump -p "$program" | sed -n 's/^ *NEEDED *//p')
    [ -n "$needed" ]
    if printf '%s\n' "$needed" | grep -vE '^(libc|libm|libdl|libpthread|librt|ld-linux[-a-z0-9]*)\.so\.[0-9]+$'; then
        echo "static: $program needs the libraries above too" >&2
        exit 1
    fi
    echo "static: $(basename "$program") needs $(echo "$needed" | tr '\n' ' ')"
done

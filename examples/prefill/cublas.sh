#!/bin/sh
# cublas.sh PREFILL: prints the folder of a Python package that has cuBLAS, for TAMIS_LIBCUBLAS, where the program does not find
# it by itself; else nothing. Fails where there is none.
set -eu

if "$1" --find-cublas >/dev/null 2>&1; then exit 0; fi
for folder in $(python3 -c 'import glob, sysconfig
for name in glob.glob(sysconfig.get_paths()["purelib"] + "/nvidia/**/libcublas.so.1[23]", recursive=True):
    print(name.rpartition("/")[0])' 2>/dev/null); do
    if TAMIS_LIBCUBLAS=$folder "$1" --find-cublas >/dev/null 2>&1; then
        echo "$folder"
        exit 0
    fi
done
"$1" --find-cublas

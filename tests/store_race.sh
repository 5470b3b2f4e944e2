#!/bin/sh
# Eight processes fill one cold store at once: all succeed, and each kernel is there once. Argument: the race_store program.
set -eu

program=${1:?usage: store_race.sh RACE_STORE}
processes=8
kernels=12
folder=$(mktemp -d "${TMPDIR:-/tmp}/tamis-race-XXXXXX")
trap 'rm -rf "$folder"' EXIT

pids=
for process in $(seq $processes); do
    "$program" fill "$folder/race.tamis" $kernels 2>"$folder/log.$process" &
    pids="$pids $!"
done

failures=0
for pid in $pids; do
    wait "$pid" || failures=$((failures + 1))
done
cat "$folder"/log.*
if [ $failures -ne 0 ]; then
    echo "store_race: $failures of $processes processes failed" >&2
    exit 1
fi
if cat "$folder"/log.* | grep -q .; then
    echo "store_race: a process had something to warn of" >&2
    exit 1
fi

found=$("$program" count "$folder/race.tamis")
wanted="spec 1 source $kernels variant $kernels cubin $kernels timing $kernels damaged 0"
if [ "$found" != "$wanted" ]; then
    echo "store_race: the store has: $found; it should have: $wanted" >&2
    exit 1
fi
rm "$folder"/log.*
if [ "$(ls "$folder")" != race.tamis ]; then
    echo "store_race: files were left behind: $(ls "$folder")" >&2
    exit 1
fi
echo "store_race: $processes processes, $wanted"

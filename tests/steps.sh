#!/usr/bin/env bash
# steps.sh: the engine of run.sh, which sources it: runs steps, two at a time, prints a line for each, and counts. Knows no
# test. Wants $log, a folder, and `set -euo pipefail`.
#
# queue NAME COMMAND..., then drain. A step passes if its command does; exit status 77 says that it found nothing to run
# with, and was skipped; one that ran many tests leaves "passed failed skipped" in the file $counts.
# shellcheck disable=SC2317,SC2154 # functions are called by their names, out of a queue; log is set by run.sh

lanes=2
passed=0 failed=0 skipped=0
queued=()

queue() {
    local name=$1
    shift
    queued+=("$name")
    printf '%q ' "$@" >"$log/$name.command"
}

step() {
    queue "$@"
    drain
}

run_step() {
    local name=$1 start=$EPOCHREALTIME code
    counts=$log/$name.counts
    set +e
    (
        set -e
        eval "$(cat "$log/$name.command")"
    ) >"$log/$name" 2>&1 </dev/null
    code=$?
    set -e
    if [ $code -eq 77 ]; then echo "0 0 1" >"$counts" && code=0; fi
    [ -s "$counts" ] || if [ $code -eq 0 ]; then echo "1 0 0" >"$counts"; else echo "0 1 0" >"$counts"; fi
    # Counts alone never make a step pass.
    if [ $code -ne 0 ]; then awk '{ print $1, ($2 > 0 ? $2 : 1), $3 }' "$counts" >"$counts.new" && mv "$counts.new" "$counts"; fi
    awk -v start="$start" -v now="$EPOCHREALTIME" 'BEGIN { printf "%.1f", now - start }' >"$log/$name.seconds"
    : >"$log/$name.done"
}

report_step() {
    local name=$1 step_passed step_failed step_skipped what=ok
    read -r step_passed step_failed step_skipped <"$log/$name.counts"
    passed=$((passed + step_passed)) failed=$((failed + step_failed)) skipped=$((skipped + step_skipped))
    [ "$step_failed" -eq 0 ] || what=FAILED
    [ $((step_passed + step_failed)) -gt 0 ] || what=skipped
    printf '%-7s %-34s %7s s' "$what" "$name" "$(cat "$log/$name.seconds")"
    [ $((step_passed + step_failed)) -le 1 ] || printf '  %d of %d' "$step_passed" $((step_passed + step_failed))
    [ "$step_skipped" -eq 0 ] || printf '  %d skipped' "$step_skipped"
    printf '\n'
    [ $what != FAILED ] || tail -n 40 "$log/$name" | sed 's/^/        | /'
    rm -f "$log/$name".{command,counts,seconds,done}
}

report_done() {
    local name left=()
    for name in "${running[@]}"; do
        if [ -e "$log/$name.done" ]; then report_step "$name"; else left+=("$name"); fi
    done
    running=("${left[@]}")
}

drain() {
    local name running=()
    for name in "${queued[@]}"; do
        run_step "$name" &
        running+=("$name")
        while [ ${#running[@]} -ge $lanes ]; do
            wait -n || true
            report_done
        done
    done
    wait
    report_done
    queued=()
}

finish() {
    echo
    if [ "$skipped" -gt 0 ]; then
        echo "$passed passed, $failed failed, $skipped skipped"
    else
        echo "$passed passed, $failed failed"
    fi
    [ "$failed" -eq 0 ]
    exit
}

# What all the rest stands on.
must() {
    local before=$failed
    step "$@"
    [ "$failed" -eq "$before" ] || finish
}

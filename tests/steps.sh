#!/usr/bin/env bash
# steps.sh: the engine of run.sh, which sources it: runs steps, two at a time, prints a line for each, and counts. Knows no
# test. Wants $log, a folder, and `set -euo pipefail`.
#
# queue NAME COMMAND..., then drain. A step of the queue begins when a lane is free and those before it in the queue have
# begun, or wait for steps that `after` names; it should keep one core busy. A step passes if its command does; exit status
# 77 says that it found nothing to run with, and was skipped; one that ran many tests leaves "passed failed skipped" in the
# file $counts.
# shellcheck disable=SC2317,SC2154 # functions are called by their names, out of a queue; log is set by run.sh

lanes=2
passed=0 failed=0 skipped=0
queued=()
declare -A needs=() result=() lane=() # by name: steps to come before it, ok or FAILED or skipped, process

queue() {
    local name=$1
    shift
    queued+=("$name")
    printf '%q ' "$@" >"$log/$name.command"
}

# "STEP..." NAME COMMAND...: once these have passed. Where one has failed, so has this, without a run.
after() {
    needs[$2]=$1
    shift
    queue "$@"
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
    if [ $code -ne 0 ]; then
        awk '{ print $1, ($2 > 0 ? $2 : 1), $3 }' "$counts" >"$counts.new" && mv "$counts.new" "$counts"
    fi
    awk -v start="$start" -v now="$EPOCHREALTIME" 'BEGIN { printf "%.1f", now - start }' >"$log/$name.seconds"
    : >"$log/$name.done"
}

report_step() {
    local name=$1 step_passed step_failed step_skipped what=ok
    read -r step_passed step_failed step_skipped <"$log/$name.counts"
    passed=$((passed + step_passed)) failed=$((failed + step_failed)) skipped=$((skipped + step_skipped))
    [ "$step_failed" -eq 0 ] || what=FAILED
    [ $((step_passed + step_failed)) -gt 0 ] || what=skipped
    result[$name]=$what
    printf '%-7s %-34s %7s s' "$what" "$name" "$(cat "$log/$name.seconds")"
    [ $((step_passed + step_failed)) -le 1 ] || printf '  %d of %d' "$step_passed" $((step_passed + step_failed))
    [ "$step_skipped" -eq 0 ] || printf '  %d skipped' "$step_skipped"
    printf '\n'
    [ $what != FAILED ] || tail -n 40 "$log/$name" | sed 's/^/        | /'
    rm -f "$log/$name".{command,counts,seconds,done}
}

# Without a run, or without its end: NAME WHY.
fail_step() {
    echo "$2" >>"$log/$1"
    echo "0 1 0" >"$log/$1.counts"
    echo 0.0 >"$log/$1.seconds"
    report_step "$1"
}

report_done() {
    local name left=()
    for name in "${running[@]}"; do
        if [ -e "$log/$name.done" ]; then
            report_step "$name"
        elif kill -0 "${lane[$name]}" 2>/dev/null; then
            left+=("$name")
        elif [ -e "$log/$name.done" ]; then # since it was looked for
            report_step "$name"
        else
            fail_step "$name" "steps: killed"
        fi
    done
    running=("${left[@]}")
}

# ready, waiting, or the step that has failed or is not there.
readiness() {
    local need state=ready
    for need in ${needs[$1]:-}; do
        case ${result[$need]:-} in
            ok) ;;
            '') if [[ " ${queued[*]} ${running[*]} " == *" $need "* ]]; then state=waiting; else echo "$need" && return; fi ;;
            *) echo "$need" && return ;;
        esac
    done
    echo $state
}

begin_steps() {
    local name state left=()
    for name in "${queued[@]}"; do
        state=waiting
        [ ${#running[@]} -ge $lanes ] || state=$(readiness "$name")
        case $state in
            waiting) left+=("$name") ;;
            ready)
                run_step "$name" &
                lane[$name]=$!
                running+=("$name")
                ;;
            *) fail_step "$name" "steps: not run, as $state has not passed" ;;
        esac
    done
    queued=("${left[@]}")
}

drain() {
    local running=()
    while [ ${#queued[@]} -gt 0 ] || [ ${#running[@]} -gt 0 ]; do
        begin_steps
        [ ${#running[@]} -eq 0 ] || wait -n || true
        report_done
    done
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

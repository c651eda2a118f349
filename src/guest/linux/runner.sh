#!/bin/sh
# The job runner: runs the steps of a job inside the guest, on its own, so that neither the guest agent's end nor a full disk
# nor a network that went away stops it.
#
#   runner.sh install               make the folders
#   runner.sh media                 mount the media
#   runner.sh start ID [OLD...]     forget the jobs OLD, read a job from standard input, run it detached
#   runner.sh run ID                (what start leaves behind)
#   runner.sh interrupt ID          ask the processes of a job's step to end themselves
#   runner.sh kill ID               end a job with all its processes, and forget it
#
# A job is a list of calls of the function `step`, all its words in single quotes. What happens goes to jobs/ID/log, which only
# grows: a header, `step N` when one begins, `end N ...` with the bytes of its output when it ended, `done`.
#
# - Everything that a step started ends with it, whether it has a parent left or not. What a step on a terminal leaves in the
#   background goes on: it is somebody else's, and ending it would hide what it is up to. When its time is up, all of it ends.
#   The processes of a step are those of its control group, or, on a guest without cgroup v2, those that bear its mark in their
#   environment (weaker: a process can take the mark off).
# - How a step on a terminal exited is also written to the disk, for it may have asked the machine to restart.
# - Output is drained for as long as the step lives, in bounded memory, and kept in a tmpfs of its own. A process that escaped and
#   still holds the pipe does not hold up the step's end.
# - Times are taken from /proc/uptime: a patch may set the clock.
# - 128 + n is taken for signal n (1 to 31), as every shell does: they can't be told apart.
set -u
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8
root=${PATCHLAB_ROOT:-/run/patchlab}
state=${PATCHLAB_STATE:-/var/lib/patchlab}
groups=/sys/fs/cgroup/patchlab
[ -e /sys/fs/cgroup/cgroup.controllers ] || groups=/sys/fs/cgroup/unified/patchlab
groups=${PATCHLAB_GROUPS:-$groups}
patience=${PATCHLAB_PATIENCE:-5} # samples, a second apart, that a question has to stand

# What a step on a terminal begins with: the terminal's own end is no part of the step, nor does it end what is left behind. (`join` is
# the same for the other steps.)
inner='
trap "" HUP
if [ -n "$PATCHLAB_GROUP" ]; then echo 0 >"$PATCHLAB_GROUP/cgroup.procs" || exit 125; fi
{ echo 0 >/proc/self/oom_score_adj; } 2>/dev/null
stty rows 24 cols 80
command=$PATCHLAB_COMMAND PATCHLAB_MARK=$PATCHLAB_TOKEN
unset PATCHLAB_COMMAND PATCHLAB_TOKEN PATCHLAB_GROUP
export PATCHLAB_MARK
exec /bin/sh -c "$command"
'

# join: makes this subshell the start of the step's processes.
join() {
    if [ -n "$group" ]; then echo 0 >"$group/cgroup.procs" || exit 125; fi
    { echo 0 >/proc/self/oom_score_adj; } 2>/dev/null
}

# now: milliseconds since the boot, into $now.
now() {
    read -r now _ </proc/uptime
    now=$((${now%.*} * 1000 + 1${now#*.} * 10 - 1000))
}

# nap MS
nap() {
    sleep "$(($1 / 1000)).$(printf %03d $(($1 % 1000)))" &
    napping=$!
    wait "$napping"
}

# members: the processes of the step, into $members.
members() {
    members=
    if [ -n "$group" ]; then
        while read -r member; do members="$members $member"; done <"$group/cgroup.procs"
    else
        for member in $(grep -lsaF "PATCHLAB_MARK=$mark" /proc/[0-9]*/environ); do
            member=${member#/proc/}
            members="$members ${member%/environ}"
        done
    fi
} 2>/dev/null

# kill_members: end the step's processes at once, those that they start meanwhile too.
kill_members() {
    members
    tries=0
    while [ -n "$members" ] && [ "$tries" -lt 40 ]; do
        if [ -z "$group" ] || ! echo 1 >"$group/cgroup.kill"; then
            for member in $members; do kill -KILL "$member"; done
        fi
        [ "$tries" -eq 0 ] || sleep 0.05
        tries=$((tries + 1))
        members
    done
} 2>/dev/null

# gone PID: whether a child of this shell has ended.
gone() {
    read -r line <"/proc/$1/stat" || return 0
    line=${line##*) }
    [ "${line%% *}" = Z ]
} 2>/dev/null

# are_terminals PID FD...: whether there is at least one and each is a terminal.
are_terminals() {
    holder=$1
    shift
    [ $# -gt 0 ] || return 1
    for fd; do
        case $(readlink "/proc/$holder/fd/$fd") in
        /dev/pts/ptmx) return 1 ;;
        /dev/pts/* | /dev/tty* | /dev/console) ;;
        *) return 1 ;;
        esac
    done
}

# memory PID ADDRESS COUNT TYPE: a process's memory as numbers.
memory() {
    dd "if=/proc/$1/mem" bs=1 "skip=$(($2))" "count=$3" 2>/dev/null | od -An -v "-t$4" | tr '\n' ' '
}

# asks PID: whether the process waits for an answer: it sleeps in a call that waits for input from terminals, from nothing else, and
# without a time limit; or it was stopped because it wanted the terminal from the background; or it is a program that only asks.
# A process that works for long, or passes another's terminal on (script, sudo, apt, ssh), does not.
asks() {
    read -r line <"/proc/$1/stat" || return 1
    name=${line#*(}
    name=${name%)*}
    asks_pid=$1
    set -- ${line##*) }
    case $1 in
    T)
        [ "$5" != 0 ] && [ "$3" != "$6" ]
        return
        ;;
    S) ;;
    *) return 1 ;;
    esac
    case $name in
    dialog | whiptail | pinentry* | systemd-ask-pas* | systemd-tty-ask) return 0 ;;
    esac
    read -r call a b c d e _ <"/proc/$asks_pid/syscall" || return 1
    waits=
    case $machine.$call in
    x86_64.0 | aarch64.63) # read
        waits=$((a))
        ;;
    x86_64.7 | x86_64.271 | aarch64.73) # poll, ppoll
        case $call.$c in
        7.0xffffffff | 7.0xffffffffffffffff | 271.0x0 | 73.0x0) ;;
        *) return 1 ;;
        esac
        [ $((b)) -ge 1 ] && [ $((b)) -le 16 ] || return 1
        # shellcheck disable=SC2046
        set -- $(memory "$asks_pid" "$a" $((b * 8)) d4)
        while [ $# -ge 2 ]; do
            if [ "$1" -ge 0 ] && [ $(($2 & 1)) -ne 0 ]; then waits="$waits $1"; fi
            shift 2
        done
        ;;
    x86_64.23 | x86_64.270 | aarch64.72) # select, pselect6
        [ "$e" = 0x0 ] && [ "$b" != 0x0 ] && [ $((a)) -ge 1 ] && [ $((a)) -le 64 ] || return 1
        fd=0
        for byte in $(memory "$asks_pid" "$b" 8 u1); do
            bit=1
            while [ "$bit" -le 128 ]; do
                if [ $((byte & bit)) -ne 0 ] && [ "$fd" -lt $((a)) ]; then waits="$waits $fd"; fi
                fd=$((fd + 1)) bit=$((bit * 2))
            done
        done
        ;;
    esac
    are_terminals "$asks_pid" $waits
} 2>/dev/null

# watch PID: ends the step when its time is up or when it asks. Runs beside it.
watch() {
    napping=
    trap 'kill "$napping" 2>/dev/null; exit' TERM
    suspect= stood=0 pause=1000 skipped=0 used=0 before=0
    [ "$terminal" = 0 ] || machine=$(uname -m)
    while :; do
        now
        left=$((begun + limit - now))
        [ "$left" -gt 0 ] || break
        if [ "$terminal" = 1 ]; then
            [ "$left" -lt "$pause" ] || left=$pause
            nap "$left"
            # Who works does not wait, and each look takes the time of who works: most are spared a step that is busy. What asks while
            # something else is busy is seen later.
            [ -z "$group" ] || read -r _ used <"$group/cpu.stat"
            if [ $((used - before)) -gt 300000 ] && [ "$skipped" -lt 4 ]; then
                before=$used pause=2000 skipped=$((skipped + 1))
                continue
            fi
            before=$used pause=1000 skipped=0
            members
            found=
            for member in $members; do
                if asks "$member"; then found=$member && break; fi
            done
            if [ -n "$found" ] && [ "$found" = "$suspect" ]; then stood=$((stood + 1)); else stood=1; fi
            suspect=$found
            [ -z "$found" ] || [ "$stood" -lt "$patience" ] || break
        else
            nap "$left"
        fi
    done
    [ -n "$suspect" ] && [ "$stood" -ge "$patience" ] && echo asked >"$work/why" || echo timed-out >"$work/why"
    members
    for member in $members; do kill -TERM "$member" && kill -CONT "$member"; done 2>/dev/null
    tries=0
    while [ -n "$members" ] && [ "$tries" -lt 20 ]; do
        nap 100
        members
        tries=$((tries + 1))
    done
    kill_members
    nap 1000
    kill -KILL "$1" 2>/dev/null
}

# record KIND VALUE HEAD TAIL TRUNCATED RESULT FILE...: one `end` line and the bytes that it announces.
record() {
    printf 'end %s %s %s %s %s %s %s %s\n' "$at" "$1" "$2" "$elapsed" "$3" "$4" "$5" "$6"
    shift 6
    [ $# -eq 0 ] || cat "$@"
    echo
} >>"$log"

# step LIMIT-MS HEAD TAIL TERMINAL FOLDER COMMAND NEEDS [NEED...] [NAME=VALUE...]
step() {
    at=$next next=$((next + 1))
    limit=$1 head=$2 tail=$3 terminal=$4 folder=$5 command_line=$6 needs=$7
    shift 7
    now
    begun=$now elapsed=0
    echo "step $at" >>"$log"
    work=$jobs/$id/$at scratch= lacks=
    while [ "$needs" -gt 0 ]; do
        if [ -z "$lacks" ] && ! command -v -- "$1" >/dev/null; then lacks=$1; fi
        shift
        needs=$((needs - 1))
    done
    if [ -n "$lacks" ]; then
        printf %s "$lacks" >"$jobs/$id/lacks"
        record lacks 0 "$(stat -c %s "$jobs/$id/lacks")" 0 0 - "$jobs/$id/lacks"
        return
    fi
    if [ -z "$folder" ]; then
        # On the disk, for there is room; in memory when there is none.
        scratch=$state/scratch/$id-$at
        mkdir -p "$work" "$scratch" 2>/dev/null || { scratch=$root/tmp/$id-$at && mkdir -p "$work" "$scratch"; }
        folder=$scratch
    else
        mkdir "$work"
    fi
    result=$root/tmp/$id-$at.result
    mark=$id.$at.$$.
    # The group serves the next step too, unless something in it could not be ended.
    if [ -n "$family" ] && { [ -z "$group" ] || [ -n "$members" ]; }; then
        group=$family/$at
        mkdir "$group" || group=
        echo "$most" >"$group/pids.max"
    fi 2>/dev/null
    mkfifo "$work/out" "$work/relayed"
    # cat can be ended: what comes after it then keeps what it has.
    cat <"$work/out" >"$work/relayed" &
    relay=$!
    {
        head -c "$head" >"$work/head"
        tail -c $((tail + 1)) >"$work/tail"
    } <"$work/relayed" &
    sink=$!
    set -- -i PATH="$PATH" HOME=/root USER=root LOGNAME=root SHELL=/bin/sh TERM=linux LC_ALL=C.UTF-8 \
        PATCHLAB_MEDIA="$root/media" PATCHLAB_KEEP="$state/keep" "$@" PATCHLAB_RESULT="$result"
    if [ "$terminal" = 1 ] && command -v script >/dev/null; then
        mkfifo "$work/answers"
        set -- "$@" PATCHLAB_GROUP="$group" PATCHLAB_TOKEN="$mark" PATCHLAB_COMMAND="$command_line"
        { cd "$folder" && exec env "$@" script -qefc "$inner" /dev/null <>"$work/answers"; } >"$work/out" 2>&1 &
    else
        set -- "$@" PATCHLAB_MARK="$mark" setsid /bin/sh -c "$command_line"
        { cd "$folder" && join && exec env "$@" </dev/null; } >"$work/out" 2>&1 &
    fi
    process=$!
    watch "$process" </dev/null >/dev/null 2>&1 &
    watcher=$!
    wait "$process"
    code=$?
    now
    elapsed=$((now - begun))
    kill "$watcher" 2>/dev/null
    wait "$watcher"

    # The last words of a pipe's far end, then the end of all that may not stay.
    members
    tries=0
    while [ -n "$members" ] && [ "$tries" -lt 4 ]; do
        sleep 0.05
        members
        tries=$((tries + 1))
    done
    [ "$terminal" = 1 ] || kill_members
    tries=0
    while ! gone "$relay"; do
        if [ "$tries" -ge 20 ]; then kill -KILL "$relay"; else sleep 0.05; fi
        tries=$((tries + 1))
    done
    wait "$relay" "$sink" 2>/dev/null

    # shellcheck disable=SC2046
    set -- $(stat -c %s "$work/head" "$work/tail")
    kept=${1:-0} rest=${2:-0} truncated=0 got=-
    if [ "$rest" -gt "$tail" ]; then
        truncated=1 rest=$tail
        tail -c "$tail" "$work/tail" >"$work/end"
        mv "$work/end" "$work/tail"
    fi
    set -- "$work/head" "$work/tail"
    if [ -f "$result" ] && [ ! -L "$result" ]; then
        head -c $((head + tail)) "$result" >"$work/result"
        got=$(stat -c %s "$work/result")
        set -- "$@" "$work/result"
    fi
    kind=exit why=
    if [ -e "$work/why" ]; then read -r why <"$work/why"; fi
    if [ -n "$why" ]; then
        kind=$why code=0
    elif [ "$code" -gt 128 ] && [ "$code" -lt 160 ]; then
        kind=signal code=$((code - 128))
    fi
    if [ "$terminal" = 1 ] && [ "$kind" = exit ]; then
        { mkdir -p "$state/ended" && echo "$code" >"$state/ended/$id-$at" && sync "$state/ended/$id-$at"; } 2>/dev/null
    fi
    record "$kind" "$code" "$kept" "$rest" "$truncated" "$got" "$@"
    rm -rf --one-file-system "$work" "$result" ${scratch:+"$scratch"}
}

# run ID: join a control group of our own, announce ourselves, take the steps.
run() {
    id=$1 log=$jobs/$1/log family= group= members= next=0
    if [ -e "${groups%/*}/cgroup.controllers" ] && mkdir -p "$groups/$id/runner" && echo 0 >"$groups/$id/runner/cgroup.procs"; then
        family=$groups/$id
        # Half of all the processes there may be: a step that forks for ever leaves room for us.
        # By cat: the kernel gives a number to who reads the whole of it at once, and the shell reads by the byte.
        most=$(($(cat /proc/sys/kernel/threads-max) / 2))
        echo +pids >"${groups%/*}/cgroup.subtree_control"
        echo +pids >"$groups/cgroup.subtree_control"
        echo +pids >"$family/cgroup.subtree_control"
    fi 2>/dev/null
    { echo -900 >/proc/self/oom_score_adj; } 2>/dev/null
    read -r line </proc/$$/stat
    set -- ${line##*) }
    echo "patchlab-job 1 $$ ${20}" >"$log"
    # For who started us and waits for the log, if it still does.
    (trap '' PIPE && echo begun) 2>/dev/null
    exec >/dev/null
    . "$jobs/$id/job"
    echo 'done' >>"$log"
    # We are still inside our group: the start of a later job, which names this one, takes it away.
}

# forget ID: a job that has ended.
forget() {
    rm -rf "${jobs:?}/$1" "$state/ended/$1-"*
    tries=0
    rmdir "$groups/$1"/* "$groups/$1" 2>/dev/null
    # What a step made in its group is in the way, and a group can be removed once its last process is not only ended but gone.
    while [ -d "$groups/$1" ] && [ "$tries" -lt 10 ]; do
        [ "$tries" -eq 0 ] || sleep 0.05
        find "$groups/$1" -depth -type d -exec rmdir {} + 2>/dev/null
        tries=$((tries + 1))
    done
}

start() {
    id=$1
    shift
    for old; do forget "$old"; done
    if mkdir "$jobs/$id" 2>/dev/null; then
        cat >"$jobs/$id/job" || exit 1
        (PATCHLAB_MARK=$id.runner. setsid /bin/sh "$0" run "$id" </dev/null 2>/dev/null &) | read -r begun
    elif [ "$(cat)" != "$(cat "$jobs/$id/job")" ]; then
        echo "another job has the id $id" >&2
        exit 1
    fi # else asked twice because the first answer got lost: the job is there
    tries=0
    until [ -s "$jobs/$id/log" ]; do
        [ "$tries" -lt 100 ] || exit 1
        tries=$((tries + 1))
        sleep 0.05
    done
}

end_job() {
    id=$1 mark=$1. group=
    { echo 1 >"$groups/$id/cgroup.kill"; } 2>/dev/null
    kill_members
    rm -rf --one-file-system "$root/tmp/$id-"* "$state/scratch/$id-"*
    forget "$id"
}

# interrupt ID: the step then ends as it likes, and the job goes on to its next.
interrupt() {
    { cat "$groups/$1"/[0-9]*/cgroup.procs || grep -lsa "PATCHLAB_MARK=$1\\.[0-9]" /proc/[0-9]*/environ | cut -d/ -f3; } 2>/dev/null |
        while read -r member; do kill -TERM "$member" && kill -CONT "$member"; done 2>/dev/null
    return 0
}

install() {
    mkdir -p "$jobs" "$root/tmp" "$root/media"
    chmod 700 "$jobs"
    mountpoint -q "$root/tmp" || mount -t tmpfs -o size=32m,mode=755 patchlab "$root/tmp" || exit 1
    mkdir -p "$state/keep" "$state/scratch" || echo "no room for $state" >&2
    # What the media need, so that no clone has to wait for it.
    modprobe -q isofs || true
}

media() {
    mountpoint -q "$root/media" && return
    tries=0
    until mount -o ro,nosuid,nodev LABEL=PATCHLAB "$root/media"; do
        tries=$((tries + 1))
        [ "$tries" -lt 50 ] || { echo 'no medium labelled PATCHLAB' >&2 && exit 1; }
        sleep 0.1
    done
}

jobs=$root/jobs
case $1 in
install) install ;;
media) media ;;
start) shift && start "$@" ;;
run) run "$2" ;;
interrupt) interrupt "$2" ;;
kill) end_job "$2" ;;
*) exit 2 ;;
esac

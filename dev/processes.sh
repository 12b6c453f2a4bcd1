# Sourced by the scripts of this folder: what they say, and the processes they start, watch and stop.
# A process is remembered as "pid start-time", so that a number the kernel has given to somebody else is never signalled.
# shellcheck shell=bash

if [[ -t 1 ]]; then
    bold=$'\e[1m' dim=$'\e[2m' red=$'\e[31m' green=$'\e[32m' plain=$'\e[0m'
else
    bold='' dim='' red='' green='' plain=''
fi

# Whoever listened may be gone: no reason to stop half-way.
say() { printf '%s\n' "$*" 2>/dev/null || true; }
hint() { say "$dim$*$plain"; }
die() {
    printf '%s: %s%s%s\n' "${0##*/}" "$red" "$*" "$plain" >&2
    exit 1
}

# seconds_since START: whole seconds, rounded; START is an earlier $EPOCHREALTIME.
seconds_since() {
    local now=${EPOCHREALTIME/[.,]/} start=${1/[.,]/}
    printf '%d' $(((now - start + 500000) / 1000000))
}

# with_log LOG COMMAND…: keeps the command's output in LOG and shows its end if the command fails.
with_log() {
    local log=$1
    shift
    if ! "$@" >"$log" 2>&1 </dev/null; then
        show_tail "$log"
        return 1
    fi
}

show_tail() {
    printf '%s--- the end of %s%s\n' "$dim" "$1" "$plain" >&2
    tail -n 20 -- "$1" >&2 || true
    printf '%s---%s\n' "$dim" "$plain" >&2
}

# A port of the loopback interface on which nobody listens. Below the range from which the kernel takes ports for outgoing
# connections, so that it is still free when a stopped server wants it back.
free_port() {
    local port
    for _ in {1..200}; do
        port=$((20000 + (RANDOM * 32768 + RANDOM) % 12000))
        if port_is_free "$port"; then
            printf '%s' "$port"
            return
        fi
    done
    die 'found no free port between 20000 and 32000'
}

# Nobody listens there (state 0A). Connections of a server just stopped linger for a minute and are in nobody's way.
port_is_free() {
    local listening
    listening=$(printf '^ *[0-9]+: [0-9A-F]+:%04X [0-9A-F]+:[0-9A-F]+ 0A ' "$1")
    ! grep -qsE "$listening" /proc/net/tcp /proc/net/tcp6
}

# The time at which the kernel started process $1, in ticks since boot; nothing if there is no such process.
start_time() {
    local stat fields
    { stat=$(<"/proc/$1/stat"); } 2>/dev/null || return 0
    stat=${stat##*) } # The command's name may hold spaces and brackets.
    read -r -a fields <<<"$stat"
    [[ ${fields[0]} == Z ]] || printf '%s' "${fields[19]}"
}

# launch PIDFILE LOG COMMAND…: a session of its own, so that Ctrl-C in this terminal does not reach it, and without any
# descriptor of ours: somebody may be waiting for the other end of a pipe.
launch() {
    local pid_file=$1 log=$2 pid
    shift 2
    (
        for descriptor in /proc/self/fd/*; do
            descriptor=${descriptor##*/}
            ((descriptor <= 2 || descriptor == 255)) || eval "exec $descriptor>&-"
        done
        exec setsid "$@"
    ) </dev/null >>"$log" 2>&1 &
    pid=$!
    printf '%s %s\n' "$pid" "$(start_time "$pid")" >"$pid_file"
}

# pid_of PIDFILE: its process's id if that still is the process we started.
pid_of() {
    local pid started
    [[ -f $1 ]] && read -r pid started <"$1" || return 1
    [[ -n $started && $(start_time "$pid") == "$started" ]] || return 1
    printf '%s' "$pid"
}

is_running() { pid_of "$1" >/dev/null; }

# stop_process PIDFILE SIGNAL SECONDS: false if it had to be killed.
stop_process() {
    local pid_file=$1 signal=$2 seconds=$3 pid
    if pid=$(pid_of "$pid_file"); then
        kill -s "$signal" "$pid" 2>/dev/null || true
        if ! eventually "$seconds" has_ended "$pid_file"; then
            kill -s KILL "$pid" 2>/dev/null || true
            eventually 5 has_ended "$pid_file" || true
            rm -f -- "$pid_file"
            return 1
        fi
    fi
    rm -f -- "$pid_file"
}

has_ended() { ! is_running "$1"; }

# eventually SECONDS COMMAND…: true as soon as the command is, false when the time is over.
eventually() {
    local end=$((${EPOCHREALTIME/[.,]/} + $1 * 1000000))
    shift
    until "$@"; do
        ((${EPOCHREALTIME/[.,]/} < end)) || return 1
        sleep 0.1
    done
}

# A numbered list of what a script does: `first_step 3`, then `step 'build'` before each.
first_step() { step_count=$1 step_number=0; }
step() {
    step_number=$((step_number + 1))
    printf '\n%s[%d/%d] %s%s\n' "$bold" "$step_number" "$step_count" "$1" "$plain"
}

# in_front COMMAND…: runs it where the terminal's Ctrl-C reaches it, and hands on to it a signal that was sent to this
# script alone. Bash would run the trap only after the command.
in_front() {
    local status interrupted=yes child
    # Bash lets what it starts with `&` ignore Ctrl-C.
    env --default-signal=INT,QUIT "$@" <&0 &
    child=$!
    trap 'interrupted=yes; kill -TERM "$child" 2>/dev/null || true' TERM HUP
    trap 'interrupted=yes' INT
    while [[ $interrupted == yes ]]; do # A trapped signal ends the wait, not the child.
        interrupted=no status=0
        wait "$child" || status=$?
    done
    trap - TERM HUP INT
    return "$status"
}

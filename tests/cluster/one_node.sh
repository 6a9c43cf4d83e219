#!/usr/bin/env bash
# A Slurm of one node on this machine, for tests: no systemd, no accounting, nothing outside DIR.
#
#   tests/cluster/one_node.sh start DIR    make and start it; prints the line that clients need:
#                                          export SLURM_CONF=DIR/slurm.conf
#   tests/cluster/one_node.sh stop DIR     cancel what runs, stop the daemons (DIR stays)
#   tests/cluster/one_node.sh crash DIR    kill the controller as a machine that fails does
#   tests/cluster/one_node.sh revive DIR   start the controller again, from the state it had saved
#
# It runs as root and needs slurm-wlm and munge of Debian or Ubuntu. Missing ones are installed if
# SFTDIV_INSTALL_SLURM=1; else the script says how. Each DIR is a cluster of its own, with its own
# key and ports. Partitions: debug (default), low (preempted by high, requeued) and high.
#
# Settings by environment: SLURM_CPUS (default: what the machine has), SLURM_MEMORY_MB (default 6000),
# SLURM_GRACE_S (seconds between the signal and the requeue of a preempted job, default 60),
# SLURM_ARRAY_SIZE (MaxArraySize, default 1001).
set -euo pipefail
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

fail() {
    echo "one_node.sh: $*" >&2
    exit 1
}

need_programs() {
    local missing=()
    for program in slurmctld slurmd sbatch munged; do
        command -v "$program" >/dev/null || missing+=("$program")
    done
    ((${#missing[@]})) || return 0
    local install="apt-get update && apt-get install -y --no-install-recommends slurm-wlm munge"
    [[ ${SFTDIV_INSTALL_SLURM:-} == 1 ]] || fail "no ${missing[*]} here; as root: $install"
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends slurm-wlm munge; } >&2
}

free_ports() { # two ports that nobody listens on
    python3 - <<'PY'
import socket
held = [socket.socket() for _ in range(2)]
for one in held:
    one.bind(("127.0.0.1", 0))
print(*(one.getsockname()[1] for one in held))
PY
}

write_conf() {
    local dir=$1 host control_port node_port
    host=$(hostname -s)
    read -r control_port node_port < <(free_ports)
    # cred_expire is also how long a requeued job waits before it may start again.
    # OverMemoryKill: a job above its memory is killed by a look every second, without cgroups.
    cat >"$dir/slurm.conf" <<CONF
ClusterName=one-node
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$control_port
SlurmdPort=$node_port
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$dir/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd.pid
SlurmctldLogFile=$dir/log/slurmctld.log
SlurmdLogFile=$dir/log/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=1
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
MpiDefault=none
ReturnToService=2
JobRequeue=1
KillWait=10
MinJobAge=300
MaxArraySize=${SLURM_ARRAY_SIZE:-1001}
DefMemPerCPU=2000
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=$host NodeAddr=127.0.0.1 CPUs=${SLURM_CPUS:-$(env -u OMP_NUM_THREADS nproc)} RealMemory=${SLURM_MEMORY_MB:-6000} State=UNKNOWN
PartitionName=debug Nodes=$host Default=YES MaxTime=INFINITE State=UP PriorityTier=10
PartitionName=low Nodes=$host MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=${SLURM_GRACE_S:-60}
PartitionName=high Nodes=$host MaxTime=INFINITE State=UP PriorityTier=20
CONF
}

start_munge() {
    local dir=$1
    [[ -f $dir/munge.key ]] || (umask 077 && head -c 1024 /dev/urandom >"$dir/munge.key")
    # --force: a folder below /tmp that others may write into is a warning, not an error
    munged --force --socket="$dir/munge.socket" --key-file="$dir/munge.key" \
        --pid-file="$dir/munged.pid" --log-file="$dir/log/munged.log" \
        --seed-file="$dir/munge.seed" 2>"$dir/log/munged.start"
    munge -S "$dir/munge.socket" -n </dev/null >/dev/null || fail "munged does not answer; see $dir/log"
}

wait_for() { # DIR, what, command
    local dir=$1 what=$2 _
    shift 2
    for _ in $(seq 100); do
        "$@" >/dev/null 2>&1 && return 0
        sleep 0.2
    done
    fail "$what did not come up within 20 s; see $dir/log"
}

controller_up() { scontrol ping | grep -q "is UP"; }
node_up() { sinfo -h -o %T | grep -qE 'idle|mixed|allocated'; }

start() {
    local dir=$1
    [[ $(id -u) == 0 ]] || fail "must run as root: slurmd starts jobs as other users"
    need_programs
    mkdir -p "$dir"/{state,spool,log}
    dir=$(cd "$dir" && pwd -P)
    ((${#dir} < 90)) || fail "$dir: a socket's path may have 108 characters; choose a shorter DIR"
    chmod 755 "$dir"
    export SLURM_CONF=$dir/slurm.conf
    if running "$dir/slurmctld.pid"; then
        echo "export SLURM_CONF=$dir/slurm.conf"
        return 0
    fi
    write_conf "$dir"
    trap '(($? == 0)) || stop "$SLURM_DIR"' EXIT # half a cluster is none
    SLURM_DIR=$dir
    start_munge "$dir"
    # In an environment of their own: jobs must not inherit what this shell has.
    env -i PATH="$PATH" SLURM_CONF="$SLURM_CONF" slurmctld -f "$SLURM_CONF"
    wait_for "$dir" slurmctld controller_up
    env -i PATH="$PATH" SLURM_CONF="$SLURM_CONF" slurmd -f "$SLURM_CONF"
    wait_for "$dir" slurmd node_up
    echo "export SLURM_CONF=$dir/slurm.conf"
}

running() { [[ -s $1 ]] && kill -0 "$(cat "$1")" 2>/dev/null; }

end() { # pid file, signal
    running "$1" || return 0
    local pid _
    pid=$(cat "$1")
    kill "-$2" "$pid" 2>/dev/null || true
    for _ in $(seq 50); do
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.2
    done
    kill -KILL "$pid" 2>/dev/null || true
    rm -f "$1"
}

stop() {
    local dir=$1 _
    [[ -f $dir/slurm.conf ]] || return 0
    dir=$(cd "$dir" && pwd -P)
    export SLURM_CONF=$dir/slurm.conf
    if running "$dir/slurmctld.pid"; then
        squeue -h -o %A | sort -u | xargs -r scancel --signal=KILL --full 2>/dev/null || true
        squeue -h -o %A | sort -u | xargs -r scancel 2>/dev/null || true
        for _ in $(seq 50); do
            [[ -z $(squeue -h 2>/dev/null) ]] && break
            sleep 0.2
        done
    fi
    end "$dir/slurmd.pid" TERM
    end "$dir/slurmctld.pid" TERM
    end "$dir/munged.pid" TERM
}

crash() { end "$1/slurmctld.pid" KILL; }

revive() {
    local dir
    dir=$(cd "$1" && pwd -P)
    export SLURM_CONF=$dir/slurm.conf
    env -i PATH="$PATH" SLURM_CONF="$SLURM_CONF" slurmctld -f "$SLURM_CONF"
    wait_for "$dir" slurmctld controller_up
}

[[ $# == 2 ]] || fail "use: one_node.sh start|stop|crash|revive DIR"
case $1 in
start | stop | crash | revive) "$1" "$2" ;;
*) fail "use: one_node.sh start|stop|crash|revive DIR" ;;
esac

#!/usr/bin/env bash
# A Slurm of one node on this machine, for tests; several may run side by side. Needs root.
#   cluster.sh install          Debian's packages, where they are missing
#   cluster.sh start DIRECTORY  state, logs and slurm.conf go there; export SLURM_CONF to use it
#   cluster.sh stop DIRECTORY
set -euo pipefail

install_packages() {
    if command -v slurmctld slurmd munged > /dev/null; then return; fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get install -y -qq --no-install-recommends slurm-wlm munge > /dev/null 2>&1 || {
        apt-get update -qq
        apt-get install -y -qq --no-install-recommends slurm-wlm munge
    }
}

start_munge() {
    if pgrep -x munged > /dev/null; then return; fi
    install -d -o munge -g munge /run/munge
    if [ ! -s /etc/munge/munge.key ]; then
        (umask 077 && head -c 128 /dev/urandom > /etc/munge/munge.key)
        chown munge:munge /etc/munge/munge.key
    fi
    runuser -u munge -- munged
}

# What is the machine's, not a cluster's, is done by one of us at a time.
alone() { flock -o "${TMPDIR:-/tmp}/quant-runner-slurm.lock" "$0" "$1"; }

start() {
    local at=$1 host memory cores port
    host=$(hostname -s)
    memory=$(awk '/MemTotal/ {print int($2 / 1024)}' /proc/meminfo)
    # Room for tasks that only wait, however small the machine.
    cores=$(nproc)
    if [ "$cores" -lt 8 ]; then cores=8; fi
    # Below those that the system gives to whoever asks for any.
    port=$((20000 + $$ % 6000 * 2))
    mkdir -p "$at/state" "$at/spool"
    cat > "$at/slurm.conf" << CONF
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmdPort=$((port + 1))
SlurmUser=root
AuthType=auth/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
SlurmdParameters=config_overrides
MpiDefault=none
KillWait=3
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2
StateSaveLocation=$at/state
SlurmdSpoolDir=$at/spool
SlurmctldPidFile=$at/slurmctld.pid
SlurmdPidFile=$at/slurmd.pid
SlurmctldLogFile=$at/slurmctld.log
SlurmdLogFile=$at/slurmd.log
NodeName=$host NodeAddr=127.0.0.1 CPUs=$cores RealMemory=$memory State=UNKNOWN
PartitionName=test Nodes=$host Default=YES MaxTime=INFINITE State=UP
CONF
    export SLURM_CONF=$at/slurm.conf
    alone munge
    slurmctld
    slurmd
    for _ in $(seq 50); do
        if sinfo -h -o %T 2> /dev/null | grep -qx idle; then return; fi
        sleep 0.2
    done
    echo "the node never became idle:" >&2
    tail -n 20 "$at/slurmctld.log" "$at/slurmd.log" >&2
    exit 1
}

stop() {
    export SLURM_CONF=$1/slurm.conf
    scancel --quiet --user root || true
    for name in slurmd slurmctld; do
        if [ -s "$1/$name.pid" ]; then kill "$(cat "$1/$name.pid")" || true; fi
    done
}

case ${1:-} in
    install) alone packages ;;
    packages) install_packages ;;
    munge) start_munge ;;
    start) start "$(realpath "$2")" ;;
    stop) stop "$(realpath "$2")" ;;
    *) sed -n '2,5s/^# //p' "$0" >&2; exit 2 ;;
esac

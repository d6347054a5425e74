#!/usr/bin/env bash
# A two-node SLURM cluster on this one machine, for tests. As root on Debian, with slurmctld, slurmd, slurm-client, munge:
#   slurm_cluster.sh start DIR [PORT] | slurm_cluster.sh stop DIR     then: export SLURM_CONF=DIR/slurm.conf
set -euo pipefail
cmd=$1 dir=$2 port=${3:-26817} host=$(hostname -s)
export SLURM_CONF=$dir/slurm.conf
stop() {
  for name in slurmctld slurmd-node1 slurmd-node2; do
    if [ -s "$dir/$name.pid" ]; then kill "$(cat "$dir/$name.pid")" 2>/dev/null || true; fi
  done
  for _ in $(seq 40); do
    compgen -G "$dir/*.pid" >/dev/null || return 0
    sleep 0.25
  done
}
case $cmd in
stop) stop ;;
start)
  install -d -o munge -g munge -m 0755 /run/munge
  [ -s /etc/munge/munge.key ] || { mungekey --create && chown munge:munge /etc/munge/munge.key; }
  munge -n </dev/null >/dev/null 2>&1 || runuser -u munge -- /usr/sbin/munged
  grep -qw node1 /etc/hosts || echo "127.0.0.1 node1 node2" >>/etc/hosts # names that do not resolve hang
  mkdir -p "$dir"/{state,log,spool/node1,spool/node2}
  # cred_expire, KillWait, the scheduler's intervals: a requeued job starts after seconds instead of minutes.
  # config_overrides, CPUs: two jobs of four tasks side by side, on whatever machine this is.
  cat >"$SLURM_CONF" <<CONF
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
AuthType=auth/munge
AuthInfo=cred_expire=5
SlurmUser=root
SlurmdUser=root
SlurmdParameters=config_overrides
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool/%n
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd-%n.pid
SlurmctldLogFile=$dir/log/slurmctld.log
SlurmdLogFile=$dir/log/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
ReturnToService=2
JobRequeue=1
KillWait=2
MinJobAge=600
SchedulerParameters=bf_interval=1,sched_interval=2,batch_sched_delay=0
NodeName=node[1-2] NodeHostname=$host NodeAddr=127.0.0.1 Port=[$((port + 1))-$((port + 2))] CPUs=4 State=UNKNOWN
PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
  stop
  slurmctld -f "$SLURM_CONF"
  slurmd -f "$SLURM_CONF" -N node1
  slurmd -f "$SLURM_CONF" -N node2
  for _ in $(seq 60); do
    [ "$(sinfo -h -t idle -o %D 2>/dev/null)" = 2 ] && exit 0
    sleep 0.5
  done
  sinfo
  tail -n 20 "$dir"/log/*.log
  exit 1
  ;;
esac

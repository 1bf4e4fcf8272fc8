#!/bin/bash
# Prepares the container to be a node. All that must outlive it is on the volume /var/lib/flaskops.
set -euo pipefail
mount --make-rshared /
data=/var/lib/flaskops
mkdir -p "$data"/{containerd,etcd,kubernetes,kubelet,pod-logs} /etc/kubernetes /var/lib/kubelet /var/log/pods
mount --bind "$data/kubernetes" /etc/kubernetes
mount --bind "$data/kubelet" /var/lib/kubelet
mount --bind "$data/pod-logs" /var/log/pods
mount --make-rshared /var/lib/kubelet
rm -rf /var/lib/cni /run/containerd
# cgroup v2 hands controllers only to children of a group without processes of its own (docker's dind does the same).
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
  mkdir -p /sys/fs/cgroup/init
  mapfile -t processes < /sys/fs/cgroup/cgroup.procs
  for process in "${processes[@]}"; do echo "$process" > /sys/fs/cgroup/init/cgroup.procs; done
  sed 's/[^ ]*/+&/g' /sys/fs/cgroup/cgroup.controllers > /sys/fs/cgroup/cgroup.subtree_control
fi
sysctl -qw net.ipv4.ip_forward=1
exec supervisord -c /etc/supervisord.conf

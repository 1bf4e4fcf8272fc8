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
cgroups.sh /sys/fs/cgroup
sysctl -qw net.ipv4.ip_forward=1
# What pods send out of the cluster has the node's address; among pods, also of two nodes, each sees the other's own.
nft -f - <<'RULES'
table ip flaskops {
  chain pods { type nat hook postrouting priority srcnat; ip saddr 10.244.0.0/16 ip daddr != 10.244.0.0/16 oifname eth0 masquerade; }
}
RULES
[ ! -e /opt/images/kube-network-policies.tar ] || network-policy.sh
exec supervisord -c /etc/supervisord.conf

#!/bin/bash
# Hands new connections of pods to the queue in which kube-network-policies judges them, where it can't do so itself: it uses nftables'
# queue, and a kernel without that may still have the one of iptables. Without the program they are let through.
set -euo pipefail
queue=98
pods=10.244.0.0/16
nft --check -f - 2>/dev/null <<< "table inet flaskops-try { chain try { queue num $queue bypass; } }" && exit 0
table=(iptables -w -t mangle)
"${table[@]}" -N FLASKOPS-POLICY
if ! "${table[@]}" -A FLASKOPS-POLICY -j NFQUEUE --queue-num "$queue" --queue-bypass 2>/dev/null; then
  echo "This kernel hands no packet to a program (it has neither CONFIG_NFT_QUEUE nor CONFIG_NETFILTER_XT_TARGET_NFQUEUE)," \
    "so that no NetworkPolicy would be enforced: set local_cluster_enforce_network_policies to false." >&2
  exit 1
fi
# The node itself reaches its pods whatever a policy says, as kubelet's probes must.
"${table[@]}" -A POSTROUTING -m addrtype --src-type LOCAL -j RETURN
"${table[@]}" -A POSTROUTING -m conntrack --ctstate ESTABLISHED,RELATED -j RETURN
"${table[@]}" -A POSTROUTING -s "$pods" -j FLASKOPS-POLICY
"${table[@]}" -A POSTROUTING -d "$pods" -j FLASKOPS-POLICY

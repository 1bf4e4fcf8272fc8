#!/bin/bash
# Gives the pods of this node addresses of the subnet that the cluster has for it, and this node a route to the pods of each other one.
# All nodes are on one network, so a route by the other node's address is enough.
set -euo pipefail
export KUBECONFIG=/var/lib/flaskops/proxy.conf
own=$(hostname)
ours=100 # the protocol that marks our routes

apply() {
  local nodes name cidr address wanted=""
  nodes=$(kubectl get nodes -o jsonpath='{range .items[*]}{.metadata.name}|{.spec.podCIDR}|{.status.addresses[?(@.type=="InternalIP")].address}{"\n"}{end}')
  while IFS='|' read -r name cidr address; do
    [ -n "$cidr" ] && [ -n "$address" ] || continue
    if [ "$name" = "$own" ]; then
      mkdir -p /etc/cni/net.d
      sed "s|SUBNET|$cidr|" /etc/cni/pods.conflist > /run/pods.conflist
      # containerd reads it again whenever it is written.
      cmp -s /run/pods.conflist /etc/cni/net.d/10-pods.conflist || mv /run/pods.conflist /etc/cni/net.d/10-pods.conflist
    else
      ip route replace "$cidr" via "$address" proto $ours
      wanted="$wanted $cidr "
    fi
  done <<<"$nodes"
  ip -4 route show proto $ours | while read -r cidr _; do
    [[ "$wanted" == *" $cidr "* ]] || ip route del "$cidr" proto $ours
  done
}

kubectl get nodes --watch -o name | while read -r _; do apply; done

#!/bin/bash
# Gives every Service of type LoadBalancer an address of the node's own network, which the host reaches.
# A cloud's controller does this elsewhere; kube-proxy then serves the address as it would there.
set -euo pipefail
export KUBECONFIG=/etc/kubernetes/admin.conf
node=$(ip -4 -o address show dev eth0 | awk 'NR == 1 {sub("/.*", "", $4); print $4}')
prefix=${node%.*}

assign() {
  local services used="" namespace name address free
  services=$(kubectl get services -A -o jsonpath='{range .items[?(@.spec.type=="LoadBalancer")]}{.metadata.namespace}{" "}{.metadata.name}{" "}{.status.loadBalancer.ingress[*].ip}{"\n"}{end}')
  while read -r namespace name address; do
    [ -z "$address" ] || used="$used $address "
  done <<<"$services"
  while read -r namespace name address; do
    [ -n "$namespace" ] || continue
    if [ -z "$address" ]; then
      for free in $(seq 100 250); do
        address=$prefix.$free
        [[ "$used" == *" $address "* ]] || break
      done
      used="$used $address "
      kubectl -n "$namespace" patch service "$name" --subresource=status --type=merge \
        -p "{\"status\":{\"loadBalancer\":{\"ingress\":[{\"ip\":\"$address\"}]}}}"
    fi
    ip address replace "$address/32" dev lo
  done <<<"$services"
  ip -4 -o address show dev lo | awk '{sub("/.*", "", $4); print $4}' | while read -r address; do
    [[ "$address" == 127.* || "$used" == *" $address "* ]] || ip address del "$address/32" dev lo
  done
}

kubectl get services -A --watch -o name | while read -r _; do assign; done

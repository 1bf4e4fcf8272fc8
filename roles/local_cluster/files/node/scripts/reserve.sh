#!/bin/bash
# Keeps ordinary pods away from the control plane where $1 is yes, and lets them on it where it is no.
# CoreDNS stays on it in any case: its one pod outlives the loss of a worker.
set -euo pipefail
export KUBECONFIG=/etc/kubernetes/admin.conf
taint=node-role.kubernetes.io/control-plane
if [ "$1" = yes ]; then
  kubectl taint nodes "$(hostname)" --overwrite $taint:NoSchedule >/dev/null
else
  kubectl taint nodes "$(hostname)" $taint:NoSchedule- >/dev/null
fi
kubectl -n kube-system patch deployment coredns --type=merge \
  -p "{\"spec\":{\"replicas\":1,\"template\":{\"spec\":{\"nodeSelector\":{\"$taint\":\"\"}}}}}" >/dev/null

#!/bin/bash
# Makes the cluster on the volume, or does nothing where one is, and starts kubelet.
# $1 is the node's address; the kubeadm configuration comes by standard input and matters only to a new cluster.
set -euo pipefail
data=/var/lib/flaskops
prepare.sh "$1" control-plane
# The proxy is for registries; kubeadm would write its address, which may hold a password, into the pods of the control plane.
unset HTTP_PROXY HTTPS_PROXY http_proxy https_proxy
if [ ! -e "$data/initialised" ]; then
  cat > "$data/kubeadm.yaml"
  rm -f "$data/proxy.conf"
  kubeadm reset --force >/dev/null 2>&1 || true
  # kubelet's own files first, so that it runs when kubeadm waits for what it starts.
  for phase in "certs all" "kubeconfig all" kubelet-start; do
    # shellcheck disable=SC2086
    kubeadm init phase $phase --config "$data/kubeadm.yaml"
  done
  supervisorctl start kubelet >/dev/null &
  kubeadm init --config "$data/kubeadm.yaml" --skip-phases=preflight,addon/kube-proxy
  kubectl --kubeconfig /etc/kubernetes/admin.conf label nodes --all node.kubernetes.io/exclude-from-external-load-balancers- >/dev/null
  if [ -e /opt/images/kube-network-policies.tar ]; then
    image=$(ctr -n k8s.io images ls -q | grep /kube-network-policies:)
    sed "s|IMAGE|$image|" /etc/flaskops/network-policy.yaml | kubectl --kubeconfig /etc/kubernetes/admin.conf apply -f - >/dev/null
  fi
  touch "$data/initialised"
else
  # A kubelet that ends at once is started again and again, and the module says so when that does not help.
  supervisorctl start kubelet >/dev/null || true
fi
# With what kube-proxy and pod-network.sh of every node read the cluster; a volume of an earlier version has none.
if [ ! -e "$data/proxy.conf" ]; then
  (umask 077 && kubeadm kubeconfig user --client-name=system:kube-proxy --config "$data/kubeadm.yaml" > "$data/proxy.new")
  mv "$data/proxy.new" "$data/proxy.conf"
fi

#!/bin/bash
# Makes the cluster on the volume, or does nothing where one is, and starts kubelet.
# $1 is the node's address; the kubeadm configuration comes by standard input and matters only to a new cluster.
set -euo pipefail
data=/var/lib/flaskops
if [ ! -e "$data/images-imported" ]; then
  for archive in /opt/images/*.tar; do
    ctr -n k8s.io images import --local "$archive" >/dev/null
  done
  touch "$data/images-imported"
fi
# Metrics are served on the node's own network only, as those of the control plane.
cat > "$data/kube-proxy.yaml" <<EOF
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clusterCIDR: 10.244.0.0/16
metricsBindAddress: $1:10249
clientConnection: {kubeconfig: /etc/kubernetes/admin.conf}
conntrack: {maxPerCore: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
EOF
if [ ! -e "$data/initialised" ]; then
  cat > "$data/kubeadm.yaml"
  kubeadm reset --force >/dev/null 2>&1 || true
  # kubelet's own files first, so that it runs when kubeadm waits for what it starts.
  for phase in "certs all" "kubeconfig all" kubelet-start; do
    # shellcheck disable=SC2086
    kubeadm init phase $phase --config "$data/kubeadm.yaml"
  done
  supervisorctl start kubelet >/dev/null &
  kubeadm init --config "$data/kubeadm.yaml" --skip-phases=preflight,addon/kube-proxy
  kubectl --kubeconfig /etc/kubernetes/admin.conf taint nodes --all node-role.kubernetes.io/control-plane- >/dev/null
  kubectl --kubeconfig /etc/kubernetes/admin.conf label nodes --all node.kubernetes.io/exclude-from-external-load-balancers- >/dev/null
  kubectl --kubeconfig /etc/kubernetes/admin.conf -n kube-system scale deployment coredns --replicas=1 >/dev/null
  if [ -e /opt/images/kube-network-policies.tar ]; then
    image=$(ctr -n k8s.io images ls -q | grep /kube-network-policies:)
    sed "s|IMAGE|$image|" /etc/flaskops/network-policy.yaml | kubectl --kubeconfig /etc/kubernetes/admin.conf apply -f - >/dev/null
  fi
  touch "$data/initialised"
else
  # A kubelet that ends at once is started again and again, and the module says so when that does not help.
  supervisorctl start kubelet >/dev/null || true
fi

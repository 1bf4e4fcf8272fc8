#!/bin/bash
# Makes the cluster on the volume, or does nothing where one is; reads the kubeadm configuration from standard input.
set -euo pipefail
data=/var/lib/flaskops
cat > "$data/kubeadm.yaml"
for _ in $(seq 300); do ctr version >/dev/null 2>&1 && break; read -rt 0.1 <> <(:) || true; done
if [ ! -e "$data/images-imported" ]; then
  for archive in /opt/images/*.tar; do
    ctr -n k8s.io images import --local "$archive" >/dev/null
  done
  touch "$data/images-imported"
fi
if [ ! -e "$data/initialised" ]; then
  kubeadm reset --force >/dev/null 2>&1 || true
  kubeadm init --config "$data/kubeadm.yaml" --skip-phases=preflight,addon/kube-proxy
  cat > "$data/kube-proxy.yaml" <<EOF
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clusterCIDR: 10.244.0.0/16
clientConnection: {kubeconfig: /etc/kubernetes/admin.conf}
conntrack: {maxPerCore: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
EOF
  kubectl --kubeconfig /etc/kubernetes/admin.conf taint nodes --all node-role.kubernetes.io/control-plane- >/dev/null
  kubectl --kubeconfig /etc/kubernetes/admin.conf label nodes --all node.kubernetes.io/exclude-from-external-load-balancers- >/dev/null
  kubectl --kubeconfig /etc/kubernetes/admin.conf -n kube-system scale deployment coredns --replicas=1 >/dev/null
  touch "$data/initialised"
fi

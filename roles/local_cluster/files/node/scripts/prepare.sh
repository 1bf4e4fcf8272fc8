#!/bin/bash
# What every node has before it is one: its images, and the configuration of kube-proxy.
# $1 is the node's address, and $2 is control-plane or worker.
set -euo pipefail
data=/var/lib/flaskops
shopt -s nullglob
archives=(/opt/images/*.tar)
# What runs on every node; not every cluster has the second.
[ "$2" = control-plane ] || archives=(/opt/images/{catatonit,kube-network-policies}*.tar)
if ! cmp -s /opt/images/list "$data/images-imported"; then
  images.sh "${archives[@]}"
  cp /opt/images/list "$data/images-imported"
fi
# Metrics are served on the node's own network only, as those of the control plane.
cat > "$data/kube-proxy.yaml" <<CONFIGURATION
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clusterCIDR: 10.244.0.0/16
metricsBindAddress: $1:10249
clientConnection: {kubeconfig: $data/proxy.conf}
conntrack: {maxPerCore: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
CONFIGURATION

#!/bin/bash
# Makes this node a worker of the cluster whose mark is $1, or does nothing where it is one, and starts kubelet.
# The kubeadm configuration, with a token in it, comes by standard input and is kept nowhere.
set -euo pipefail
data=/var/lib/flaskops
unset HTTP_PROXY HTTPS_PROXY http_proxy https_proxy # of this machine, for registries
if [ "$(cat "$data/initialised" 2>/dev/null)" != "$1" ]; then
  kubeadm reset --force >/dev/null 2>&1 || true
  trap 'rm -f /run/join.yaml' EXIT
  (umask 077 && cat > /run/join.yaml)
  # kubelet.sh waits for the files that kubeadm writes, and kubeadm for kubelet.
  supervisorctl start kubelet >/dev/null &
  kubeadm join --config /run/join.yaml --skip-phases=preflight
  echo "$1" > "$data/initialised"
else
  supervisorctl start kubelet >/dev/null || true
fi

#!/bin/bash
# kubelet with the flags and files that kubeadm wrote.
set -euo pipefail
until [ -e /var/lib/kubelet/kubeadm-flags.env ] && [ -e /var/lib/kubelet/config.yaml ]; do sleep 0.1; done
. /var/lib/kubelet/kubeadm-flags.env
# shellcheck disable=SC2086
exec kubelet --kubeconfig=/etc/kubernetes/kubelet.conf --bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf \
  --config=/var/lib/kubelet/config.yaml $KUBELET_KUBEADM_ARGS

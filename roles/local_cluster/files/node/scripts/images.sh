#!/bin/bash
# Gives the node images that it needs itself: from their registry, or out of its own archives, which hold the same versions.
# The arguments are the archives. Which of the two is told by what answers; the smallest image is asked for first, so that a registry
# that does not answer is asked once.
set -euo pipefail
pull() { timeout "$1" ctr -n k8s.io images pull --hosts-dir /etc/containerd/certs.d "$2" 2>&1 >/dev/null; }
has() {
  local ref
  ref=$(awk -v name="${1##*/}" '$1 == name {print $2}' /opt/images/list)
  if [ "$ref" = localhost/pause:node ] && ctr -n k8s.io images tag --force "$pause" "$ref" >/dev/null 2>&1; then
    echo "pulled $pause"
  elif [ "$answers" ] && pull 300 "$ref" >/dev/null; then
    echo "pulled $ref"
  else
    ctr -n k8s.io images import --local "$1" >/dev/null
    echo "imported $ref"
  fi
}

answers=
pause=$(kubeadm config images list --kubernetes-version "$(kubeadm version -o short)" | grep /pause:)
# That it has not this one is an answer too.
if answer=$(pull 20 "$pause") || [[ "$answer" == *"not found"* ]]; then answers=yes; fi
export answers pause
export -f has pull
printf '%s\n' "$@" | xargs -P 2 -I ARCHIVE bash -euo pipefail -c 'has "$1"' has ARCHIVE

#!/bin/bash
# Lets the groups of a node have cgroup v2's controllers; $1 is the root of its control groups. docker's dind does the same.
# The kernel gives controllers only to children of a group without processes of its own. Meanwhile processes end, and others come, as
# each exec starts in the root: so it is tried until it succeeds.
set -uo pipefail
[ -e "$1/cgroup.controllers" ] || exit 0
mkdir -p "$1/init"
for _ in {1..100}; do
  mapfile -t processes < "$1/cgroup.procs"
  for process in "${processes[@]}"; do echo "$process" > "$1/init/cgroup.procs"; done 2>/dev/null
  if error=$(sed 's/[^ ]*/+&/g' "$1/cgroup.controllers" 2>&1 > "$1/cgroup.subtree_control"); then exit 0; fi
  sleep 0.1
done
echo "The controllers of $1 could not be given to its groups within 10 s: $error" >&2
exit 1

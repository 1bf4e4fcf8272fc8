#!/bin/bash
# The proofs that take longer than `make test` may: one part, or all of them without an argument. A test that has passed at this
# commit is not run again, so a run that was stopped goes on where it was.
set -euo pipefail
cd "$(dirname "$0")/.."
declare -A part=(
  [cluster]="integration/test_local_cluster integration/test_docker integration/test_skipped_programs integration/test_killed_runs"
  [nodes]="integration/test_local_nodes integration/test_network_policy integration/test_connected"
  [proof]="integration/test_verify_mutations integration/test_verify_schedule integration/test_drill
    integration/test_far_end"
  [apps]="integration/test_applications integration/test_applications_deployed integration/test_other_probes
    integration/test_everything integration/test_autoscaling
    integration/test_readme integration/test_chain integration/test_flask_roles integration/test_failed_changes integration/test_app_monitoring
    integration/test_kube_prometheus_stack"
  [providers]="api/test_external_checks api/test_logging_choice api/test_victoria_logs_login integration/test_logs
    integration/test_victoria_logs integration/test_loki_stand_in integration/test_fluent_bit integration/test_cloudwatch
    integration/test_elastic_stack"
  [security]="api"
)
# These need the cluster of `molecule converge`; the tests of the others make their own, and want no other one on this machine.
shared=(proof apps providers)
chosen=("${@:-cluster nodes security proof apps providers}")
export FLASKOPS_PASSED=$PWD/.pytest_cache/long/$(git rev-parse --short HEAD)
export FLASKOPS_LONG=1
failed=()
mkdir -p "${FLASKOPS_PASSED%/*}"
for name in ${chosen[*]}; do
  [ -n "${part[$name]:-}" ] || { echo "There is no part '$name': use some of ${!part[*]}." >&2; exit 2; }
  if [[ " ${shared[*]} " == *" $name "* ]]; then
    molecule converge
    export CLUSTER_KUBECONFIG=$HOME/.local/share/flaskops/clusters/flaskops-test/kubeconfig
  else
    molecule destroy
    unset CLUSTER_KUBECONFIG
  fi
  for file in ${part[$name]}; do
    path=tests/$file
    [ -d "$path" ] || path+=.py
    status=0
    pytest -v "$path" || status=$?
    # 5 is a file of which every test has passed before.
    ((status == 0 || status == 5)) || failed+=("$name: $file")
  done
done
if [ ${#failed[@]} -gt 0 ]; then
  printf 'Failed: %s\n' "${failed[@]}"
  exit 1
fi
echo "What has passed at this commit is in $FLASKOPS_PASSED; remove it to run that again."
molecule destroy

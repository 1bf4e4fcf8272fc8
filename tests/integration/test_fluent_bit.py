# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""fluent_bit on the real cluster: everything but readiness, which needs an image that not every machine can have.

The tests from `test_check_mode_on_an_empty_cluster` on go on where the one before ended.
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.flaskops.observability.plugins.module_utils.node import image_archive
from kubernetes import client

from tests.harness import LONG, ROOT, Cluster, Run, engine_env, refusals, run_role, watched_role

sys.path.insert(0, str(ROOT / "tests/unit/fluent_bit"))
from fluent_bit_options import DEFAULTS, WRONG

pytestmark = LONG
NAMESPACE = "fluent-bit-test"
# Port 1 of the loopback address answers nobody.
NOWHERE = "localhost:1/fluent/fluent-bit:5.1.3"
CANARIES = [f"canary-{name}-6f1d" for name in ("password", "token", "api-key", "aws-id", "aws-secret", "tls-key")]
SECRETS = dict(
    zip(["password", "token", "api-key", "aws-access-key-id", "aws-secret-access-key", "tls.key"], CANARIES, strict=True)
)
OUTPUTS: list[dict[str, Any]] = [
    {"type": "loki", "host": "loki.test.svc", "username": "shipper", "password_secret": "password"},
    {"type": "http", "host": "collector.test.svc", "bearer_token_secret": "token"},
    {
        "type": "es",
        "host": "es.test.svc",
        "tls": True,
        "api_key_secret": "api-key",
        "tls_certificate_secret": "tls.crt",
        "tls_key_secret": "tls.key",
    },
    {"type": "cloudwatch_logs", "region": "eu-central-1"},
]


# What the role's specification says before the filter is asked.
SPECIFICATION = {
    "unknown type": "value of type must be one of: loki, victoria_logs, cloudwatch_logs, es, opensearch, http, got: splunk",
    "no mapping": "Elements value for option 'fluent_bit_outputs' is of type str and we were unable to convert to dict",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fluent_bit")


@pytest.fixture(scope="module")
def variables(cluster: Cluster, folder: Path) -> Iterator[dict[str, Any]]:
    """The role's variables. Whatever a failed test left behind is removed in the end."""
    found: dict[str, Any] = {
        "fluent_bit_kubeconfig": str(cluster.kubeconfig),
        "fluent_bit_context": cluster.context,
        "fluent_bit_namespace": NAMESPACE,
        "fluent_bit_name": NAMESPACE,
        "fluent_bit_cluster_label": "test",
        "fluent_bit_image": NOWHERE,
        "fluent_bit_image_pull_policy": "Never",
        "fluent_bit_wait": False,
        "fluent_bit_outputs": OUTPUTS,
        "fluent_bit_secrets": {**SECRETS, "tls.crt": "no secret"},
        "fluent_bit_aws_static_keys": True,
    }
    yield found
    run(folder, found, "-e", "fluent_bit_state=absent")


def run(folder: Path, variables: dict[str, Any], *args: str) -> Run:
    return run_role("fluent_bit", folder, variables, *args)


def daemon_set(cluster: Cluster) -> client.V1DaemonSet:
    return cluster.apps.read_namespaced_daemon_set(NAMESPACE, NAMESPACE)


def spelled(secret: str) -> list[str]:
    """A secret as it is, and as it would stand in a Secret object."""
    return [secret, base64.b64encode(secret.encode()).decode()]


def test_wrong_options_end_in_one_sentence(tmp_path: Path) -> None:
    """Through the role; the unit tests ask the filter alone."""
    cases = {}
    for name, (options, _message) in WRONG.items():
        given = {**DEFAULTS, **options}
        empty = given.pop("empty_secrets")
        given["secrets"] = {key: "" if key in empty else "x" for key in given.pop("secret_keys")}
        cases[name] = {f"fluent_bit_{key}": value for key, value in given.items()}
    for name, text in refusals("fluent_bit", tmp_path, cases).items():
        assert "CANARY" not in text, name
        assert SPECIFICATION.get(name, WRONG[name][1]) in text, f"{name}: {text}"


def test_embedded_cluster_without_an_image_is_skipped(cluster: Cluster, folder: Path, variables: dict[str, Any]) -> None:
    done = run(folder, {**variables, "fluent_bit_local_cluster": cluster.context})
    assert done.changed == 0
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("fluent_bit: ")]
    assert "skipped, because the node" in line and line.endswith("name an archive of the image in fluent_bit_image_archive.")
    assert "skipped: True" in done.stdout
    assert NAMESPACE not in cluster.namespaces()


def test_archive_of_another_image_is_refused(cluster: Cluster, folder: Path, variables: dict[str, Any]) -> None:
    archive = folder / "other.tar"
    write_archive(archive, "localhost/other:1")
    given = {**variables, "fluent_bit_local_cluster": cluster.context, "fluent_bit_image_archive": str(archive)}
    assert f"holds localhost/other:1 and not {NOWHERE}" in run(folder, given).error
    assert NAMESPACE not in cluster.namespaces()


def write_archive(path: Path, ref: str) -> None:
    """An image with a program in Fluent Bit's place; no pod of it ever has to become ready."""
    program = Path("/bin/true")
    image_archive.write(path, ref, program, "/fluent-bit/bin/fluent-bit", ["/fluent-bit/bin/fluent-bit"], "amd64")


def test_archive_is_imported_once(cluster: Cluster, folder: Path, variables: dict[str, Any]) -> None:
    archive, ref = folder / "image.tar", "localhost/fluent-bit-test:5.1.3"
    write_archive(archive, ref)
    given = {**variables, "fluent_bit_local_cluster": cluster.context, "fluent_bit_image_archive": str(archive)}
    given["fluent_bit_image"] = ref
    try:
        assert run(folder, given, "--check").changed == 2  # the import and the objects
        assert ref not in node_images(cluster)
        assert run(folder, given).changed == 2
        assert ref in node_images(cluster)
        assert run(folder, given).changed == 0
    finally:
        subprocess.run([*ctr(cluster), "rm", ref], capture_output=True, env=engine_env())
        run(folder, given, "-e", "fluent_bit_state=absent")


def ctr(cluster: Cluster) -> list[str]:
    return ["podman", "exec", f"{cluster.context}-node", "ctr", "-n", "k8s.io", "images"]


def node_images(cluster: Cluster) -> list[str]:
    done = subprocess.run([*ctr(cluster), "ls", "-q"], check=True, capture_output=True, text=True, env=engine_env())
    return done.stdout.split()


def test_check_mode_on_an_empty_cluster(cluster: Cluster, folder: Path, variables: dict[str, Any]) -> None:
    assert run(folder, variables, "--check").changed == 1
    assert NAMESPACE not in cluster.namespaces()


def test_converge_twice(cluster: Cluster, folder: Path, variables: dict[str, Any]) -> None:
    assert run(folder, variables).changed == 1
    assert run(folder, variables).changed == 0
    assert run(folder, variables, "--check").changed == 0


def test_pod_has_few_rights(cluster: Cluster) -> None:
    spec = daemon_set(cluster).spec.template.spec
    for container in [*spec.init_containers, *spec.containers]:
        context = container.security_context
        assert context.read_only_root_filesystem and not context.privileged and not context.allow_privilege_escalation
        assert context.capabilities.drop == ["ALL"] and not context.capabilities.add
    assert [container.name for container in spec.containers] == ["loki", "http", "es", "cloudwatch-logs"]
    for container in spec.containers:
        (state,) = [mount for mount in container.volume_mounts if not mount.read_only]
        assert (state.mount_path, state.sub_path) == ("/fluent-bit/state", container.name)
    assert not spec.host_network and not spec.host_pid
    role = client.RbacAuthorizationV1Api(cluster.api).read_cluster_role(f"{NAMESPACE}-{NAMESPACE}")
    assert [(rule.resources, rule.verbs) for rule in role.rules] == [(["pods"], ["get"])]


def test_pods_are_admitted(cluster: Cluster) -> None:
    """Pod Security and the API server take the pod: it exists on every node, whatever its image."""
    status = daemon_set(cluster).status
    assert status.desired_number_scheduled == status.current_number_scheduled >= 1


def test_secrets_are_nowhere_else(cluster: Cluster, folder: Path, variables: dict[str, Any]) -> None:
    """Not in the output at -vvv with differences, not in any process's arguments, not in any object but the Secret."""
    changed = {**variables, "fluent_bit_secrets": {key: f"{value}-2" for key, value in variables["fluent_bit_secrets"].items()}}
    text, arguments = watched_role("fluent_bit", folder, changed)
    for item in ("Secret", "DaemonSet"):
        assert f"changed {item} {NAMESPACE}/{NAMESPACE}" in text, (
            "a changed credential must change the Secret and roll the DaemonSet"
        )
    everything = json.dumps(cluster.api.sanitize_for_serialization(objects(cluster)))
    for canary in CANARIES:
        for secret in spelled(canary) + spelled(f"{canary}-2"):
            assert secret not in text
            assert secret not in everything
            assert not [line for line in arguments if secret in line]
    stored = cluster.core.read_namespaced_secret(f"{NAMESPACE}-credentials", NAMESPACE).data
    assert base64.b64decode(stored["password"]).decode() == f"{SECRETS['password']}-2"


def objects(cluster: Cluster) -> list[Any]:
    """Everything of the namespace in which a secret could stand by mistake."""
    core, apps = cluster.core, cluster.apps
    lists = [core.list_namespaced_config_map, core.list_namespaced_pod, core.list_namespaced_event, core.list_namespaced_service]
    lists += [apps.list_namespaced_daemon_set, apps.list_namespaced_controller_revision, core.list_namespaced_service_account]
    found = [function(NAMESPACE).items for function in lists]
    assert found[0] and found[5]
    return found


def test_a_change_of_the_configuration_rolls_the_pods(cluster: Cluster, folder: Path, variables: dict[str, Any]) -> None:
    given = {**variables, "fluent_bit_secrets": {key: f"{value}-2" for key, value in variables["fluent_bit_secrets"].items()}}
    before = daemon_set(cluster)
    assert run(folder, {**given, "fluent_bit_excluded_namespaces": ["kube-system"]}).changed == 1
    after = daemon_set(cluster)
    assert after.metadata.generation == before.metadata.generation + 1
    assert after.spec.template.metadata.annotations != before.spec.template.metadata.annotations


def test_drift_is_repaired(cluster: Cluster, folder: Path, variables: dict[str, Any]) -> None:
    assert run(folder, variables).changed == 1
    patch = {"data": {"loki.yaml": "service: {}"}}
    cluster.core.patch_namespaced_config_map(NAMESPACE, NAMESPACE, patch)
    assert run(folder, variables, "--check").changed == 1
    config = cluster.core.read_namespaced_config_map(NAMESPACE, NAMESPACE).data["loki.yaml"]
    assert config == "service: {}", "check mode changed the cluster"
    assert run(folder, variables).changed == 1
    config = cluster.core.read_namespaced_config_map(NAMESPACE, NAMESPACE).data["loki.yaml"]
    assert {entry["name"] for entry in yaml.safe_load(config)["pipeline"]["outputs"]} == {"loki", "prometheus_exporter"}


def test_a_secret_that_is_not_wanted_any_more_goes(cluster: Cluster, folder: Path, variables: dict[str, Any]) -> None:
    given = {**variables, "fluent_bit_secrets": {}, "fluent_bit_aws_static_keys": False}
    given["fluent_bit_outputs"] = [{"type": "loki", "host": "loki.test.svc"}]
    assert run(folder, given).changed == 1
    assert not cluster.core.list_namespaced_secret(NAMESPACE).items


def test_an_existing_secret_that_lacks_a_key_is_refused(cluster: Cluster, folder: Path, variables: dict[str, Any]) -> None:
    given = {**variables, "fluent_bit_secrets": {}, "fluent_bit_aws_static_keys": False, "fluent_bit_existing_secret": "mine"}
    given["fluent_bit_outputs"] = [OUTPUTS[0]]
    assert f"Secret mine in namespace {NAMESPACE} does not exist" in run(folder, given).error
    cluster.core.create_namespaced_secret(NAMESPACE, {"metadata": {"name": "mine"}, "stringData": {"user": "x"}})
    assert f"Secret mine in namespace {NAMESPACE} has no key password" in run(folder, given).error


def test_absent_leaves_nothing(cluster: Cluster, folder: Path, variables: dict[str, Any]) -> None:
    assert run(folder, variables, "-e", "fluent_bit_state=absent").changed == 1
    assert run(folder, variables, "-e", "fluent_bit_state=absent").changed == 0
    assert NAMESPACE not in cluster.namespaces()
    rbac = client.RbacAuthorizationV1Api(cluster.api)
    left = [*rbac.list_cluster_role().items, *rbac.list_cluster_role_binding().items]
    assert [item.metadata.name for item in left if NAMESPACE in item.metadata.name] == []

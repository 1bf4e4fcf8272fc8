# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What role fluent_bit itself does at CloudWatch, against moto over TLS: log groups with a KMS key; and Grafana's data source.

moto comes from PyPI into a folder of the cache; the project's own Python does not have it, nor boto3.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.harness import LONG, ROOT, Cluster, run_role, until

sys.path.insert(0, str(ROOT))
from tests.fakes.certificates import certificate

pytestmark = LONG
MOTO = "moto[server]==5.2.5"
NAMESPACE, GRAFANA = "cloudwatch-test", "cloudwatch-test-grafana"
KEY = "arn:aws:kms:eu-central-1:123456789012:key/6f1d2c3b"
CANARIES = {"aws-access-key-id": "canary-id-91b2", "aws-secret-access-key": "canary-key-91b2"}
OUTPUT = {"type": "cloudwatch_logs", "region": "eu-central-1", "log_group": "/shop/test", "kms_key": KEY, "retention_days": 90}
LIST = """
import boto3, json
groups = boto3.client("logs", region_name="eu-central-1").describe_log_groups()["logGroups"]
print(json.dumps({group["logGroupName"]: [group.get("kmsKeyId"), group.get("retentionInDays")] for group in groups}))
"""


class Aws:
    """moto's CloudWatch Logs, and a Python that has boto3."""

    def __init__(self, python: Path, env: dict[str, str]) -> None:
        self.python, self.env = python, env

    def groups(self) -> dict[str, list[Any]]:
        """KMS key and retention of each log group."""
        done = subprocess.run(
            [self.python, "-c", LIST], env={**os.environ, **self.env}, check=True, capture_output=True, text=True
        )
        found: dict[str, list[Any]] = json.loads(done.stdout)
        return found


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aws]:
    folder = tmp_path_factory.mktemp("aws")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flaskops" / MOTO.replace("[server]==", "-")
    if not (cache / "moto").is_dir():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(cache), MOTO]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"{MOTO} can't be obtained: {done.stderr.strip().splitlines()[-1]}")
    # The modules' Python: this one, with boto3 behind what it has itself.
    python = folder / "python"
    program = f"import site, sys; sys.path.append({str(cache)!r})"
    (folder / "path").mkdir()
    (folder / "path/sitecustomize.py").write_text(program)
    python.write_text(f'#!/bin/sh\nPYTHONPATH={folder}/path:$PYTHONPATH exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    pem, key = certificate("127.0.0.1")
    (folder / "tls.crt").write_text(pem)
    (folder / "tls.key").write_text(key)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {
        "AWS_ENDPOINT_URL": f"https://127.0.0.1:{port}",
        "AWS_CA_BUNDLE": str(folder / "tls.crt"),
        # moto takes any; Ansible masks them in what it prints.
        "AWS_ACCESS_KEY_ID": "moto-access-key",
        "AWS_SECRET_ACCESS_KEY": "moto-secret-key",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    command = [str(python), "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    command += ["-c", str(folder / "tls.crt"), "-k", str(folder / "tls.key")]
    with (folder / "moto.log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as server:

        def answers() -> bool:
            assert server.poll() is None, (folder / "moto.log").read_text()
            with socket.socket() as client:
                return client.connect_ex(("127.0.0.1", port)) == 0

        try:
            until(answers, 60, "moto's start")
            yield Aws(python, env)
        finally:
            server.terminate()


@pytest.fixture(scope="module")
def variables(cluster: Cluster, aws: Aws, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    found: dict[str, Any] = {
        "ansible_python_interpreter": str(aws.python),
        "fluent_bit_kubeconfig": str(cluster.kubeconfig),
        "fluent_bit_context": cluster.context,
        "fluent_bit_namespace": NAMESPACE,
        "fluent_bit_name": NAMESPACE,
        "fluent_bit_image": "localhost:1/fluent/fluent-bit:5.1.3",
        "fluent_bit_image_pull_policy": "Never",
        "fluent_bit_wait": False,
        "fluent_bit_outputs": [OUTPUT],
        "fluent_bit_grafana_namespace": GRAFANA,
        "fluent_bit_grafana_role_arn": "arn:aws:iam::123456789012:role/grafana",
        "fluent_bit_grafana_secrets": CANARIES,
    }
    yield found
    run_role("fluent_bit", tmp_path_factory.mktemp("end"), found, "-e", "fluent_bit_state=absent")
    if GRAFANA in cluster.namespaces():
        cluster.core.delete_namespace(GRAFANA)


def test_group_gets_its_key_and_its_retention(aws: Aws, variables: dict[str, Any], tmp_path: Path) -> None:
    def changed(*args: str, **output: Any) -> int:
        given = {**variables, "fluent_bit_outputs": [{**OUTPUT, **output}]}
        return run_role("fluent_bit", tmp_path, given, *args, env=aws.env).changed

    assert changed("--check") == 2  # the group and the objects
    assert aws.groups() == {}
    assert changed() == 2
    assert aws.groups() == {"/shop/test": [KEY, 90]}
    assert changed() == 0
    assert changed("--check") == 0
    assert changed(retention_days=7) == 1
    assert aws.groups() == {"/shop/test": [KEY, 7]}
    assert changed(retention_days=0) == 1
    assert aws.groups() == {"/shop/test": [KEY, None]}


def test_grafana_gets_a_data_source(cluster: Cluster, aws: Aws, variables: dict[str, Any], tmp_path: Path) -> None:
    done = run_role("fluent_bit", tmp_path, variables, env=aws.env)
    assert f"there is no namespace {GRAFANA}" in done.stdout
    cluster.core.create_namespace({"metadata": {"name": GRAFANA}})
    done = run_role("fluent_bit", tmp_path, variables, "-vvv", "--diff", env=aws.env)
    assert done.changed == 1
    assert not [canary for canary in CANARIES.values() if canary in done.stdout + done.stderr]
    (secret,) = cluster.core.list_namespaced_secret(GRAFANA, label_selector="grafana_datasource=1").items
    (source,) = yaml.safe_load(base64.b64decode(secret.data["cloudwatch.yaml"]))["datasources"]
    assert source["type"] == "cloudwatch" and source["jsonData"] == {
        "authType": "keys",
        "assumeRoleArn": "arn:aws:iam::123456789012:role/grafana",
        "defaultRegion": "eu-central-1",
        "defaultLogGroups": ["/shop/test"],
    }
    assert source["secureJsonData"] == {
        "accessKey": CANARIES["aws-access-key-id"],
        "secretKey": CANARIES["aws-secret-access-key"],
    }
    assert run_role("fluent_bit", tmp_path, variables, env=aws.env).changed == 0
    loki = [{"type": "loki", "host": "loki.test.svc"}]
    assert run_role("fluent_bit", tmp_path, {**variables, "fluent_bit_outputs": loki}, env=aws.env).changed == 1
    assert not cluster.core.list_namespaced_secret(GRAFANA, label_selector="grafana_datasource=1").items

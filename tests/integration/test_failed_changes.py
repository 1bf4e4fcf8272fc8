# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A change that can't work ends in a clear message, and the version before it goes on serving."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import Cluster, playbook


@pytest.fixture(autouse=True, scope="module")
def repaired() -> Iterator[None]:
    yield
    assert playbook("site.yml", "--tags", "app").changed >= 0


def app(**options: Any) -> dict[str, Any]:
    entry = {"name": "flask-app", "service_type": "LoadBalancer", **options}
    return {"flask_apps": [entry], "flask_app_wait_timeout": 60}


def serves(cluster: Cluster) -> bool:
    with urllib.request.urlopen(f"http://{cluster.address('flask-app', 'flask-app')}/health", timeout=5) as reply:
        return bool(reply.status == 200)


def image(cluster: Cluster) -> str:
    found = cluster.apps.read_namespaced_deployment("flask-app", "flask-app").spec.template.spec.containers[0].image
    return str(found)


def test_an_app_that_crashes(cluster: Cluster) -> None:
    error = playbook("site.yml", "--tags", "app", extra=app(image=image(cluster), environment={"DRAIN_SECONDS": "soon"})).error
    assert "container flask-app" in error and "CrashLoopBackOff" in error
    assert "The environment variable DRAIN_SECONDS is 'soon'" in error, "the last log lines are missing"
    assert serves(cluster)


def test_an_app_that_never_becomes_ready(cluster: Cluster) -> None:
    command = ["python3", "-c", "import time; print('waiting for the database', flush=True); time.sleep(300)"]
    overrides = {"containers": [{"name": "flask-app", "command": command}]}
    extra = app(image=image(cluster), pod_overrides=overrides) | {"flask_app_wait_timeout": 25}
    error = playbook("site.yml", "--tags", "app", extra=extra).error
    assert "container flask-app" in error
    assert "waiting for the database" in error
    assert serves(cluster)


def test_an_image_that_is_not_there(cluster: Cluster) -> None:
    error = playbook("site.yml", "--tags", "app", extra=app(image="localhost/flask-app:none", image_pull_policy="Never")).error
    assert "ErrImageNeverPull" in error
    assert serves(cluster)


def test_a_broken_containerfile(cluster: Cluster, tmp_path: Path) -> None:
    before = image(cluster)
    (tmp_path / "Containerfile").write_text("FROM scratch\nCOPY missing.py /\n")
    error = playbook("site.yml", "--tags", "image,app", extra=app(source=str(tmp_path))).error
    assert "missing.py" in error and str(tmp_path) in error
    assert image(cluster) == before
    assert serves(cluster)


def test_an_unknown_key_of_an_app(cluster: Cluster) -> None:
    error = playbook("site.yml", "--tags", "app", extra=app(replica=3)).error
    assert [word for word in ("flask-app", "flaskops-test", "unknown key replica", "replicas") if word not in error] == []

# GNU General Public License v3.0 or later (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Secret that VictoriaLogs can't use ends the role in one sentence, before anything of the cluster is changed.

A case is a host of a play, with a namespace of its own.
"""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

from ansible_collections.flaskops.observability.plugins.module_utils._objects import Objects

from tests.api_rig import CONTEXT, Rig
from tests.fakes.certificates import certificate
from tests.harness import LONG, ROOT, failures, run_role
from tests.toolchain import programs

LOGIN = {"victoria_logs_existing_secret": "ours"}
TLS = {"victoria_logs_tls_secret": "ours"}
PAIR, OTHER = certificate("victoria-logs.pair.svc"), certificate("victoria-logs.pair.svc")
CASES: dict[str, tuple[dict[str, Any], dict[str, str], str]] = {
    "none": (LOGIN, {}, "Secret ours in namespace none does not exist"),
    "half": (LOGIN, {"username": "ann"}, "lacks password"),
    "broken": (LOGIN, {"username": "ann", "password": "CANARY\n"}, "holds a password with a line break"),
    "nokey": (TLS, {"tls.crt": PAIR[0]}, "lacks tls.key and ca.crt"),
    "pair": (TLS, {"tls.crt": PAIR[0], "tls.key": OTHER[1], "ca.crt": PAIR[0]}, "are no pair"),
    "elsewhere": (TLS, {"tls.crt": PAIR[0], "tls.key": PAIR[1], "ca.crt": PAIR[0]}, "for victoria-logs.elsewhere.svc"),
}


def test_a_wrong_secret_is_refused_before_anything_changes(rig: Rig, tmp_path: Path) -> None:
    objects = Objects(rig.api)
    for name, (_options, content, _words) in CASES.items():
        objects.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}, "somebody")
        if content:
            secret = {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": "ours", "namespace": name},
                "stringData": content,
            }
            objects.apply(secret, "somebody")
    shared = {
        "victoria_logs_kubeconfig": str(rig.kubeconfig()),
        "victoria_logs_context": CONTEXT,
        "victoria_logs_source": "upstream",
        "victoria_logs_chart_ref": str(ROOT / "charts/victoria-logs-embedded"),
    }
    cases = {name: {**shared, **options, "victoria_logs_namespace": name} for name, (options, _content, _words) in CASES.items()}
    before = state(objects)
    done, said = failures("victoria_logs", tmp_path, cases)
    assert "CANARY" not in done.stdout + done.stderr
    for name, (_options, _content, words) in CASES.items():
        assert words in said[name] and "\n" not in said[name], said[name]
    assert state(objects) == before


CONFIG_MAP = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: it, namespace: {{ .Release.Namespace }}}\ndata: {a: b}\n"


@LONG
def test_the_login_is_kept_in_a_secret_that_goes_with_it(rig: Rig, tmp_path: Path) -> None:
    """With a chart that needs no node."""
    chart = tmp_path / "victoria-logs-single"
    (chart / "templates").mkdir(parents=True)
    (chart / "Chart.yaml").write_text("apiVersion: v2\nname: victoria-logs-single\nversion: 1.0.0\n")
    (chart / "templates/it.yaml").write_text(CONFIG_MAP)
    objects, namespace = Objects(rig.api), "login-kept"
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "victoria-logs-login", "namespace": namespace}}
    options: dict[str, Any] = {
        "victoria_logs_kubeconfig": str(rig.kubeconfig()),
        "victoria_logs_context": CONTEXT,
        "victoria_logs_source": "upstream",
        "victoria_logs_chart_ref": str(chart),
        "victoria_logs_namespace": namespace,
        "victoria_logs_wait_timeout": 30,
    }
    env = {"PATH": f"{programs('helm')}:{os.environ['PATH']}"}
    login = {"victoria_logs_username": "ann", "victoria_logs_password": "CANARY"}

    def run(**given: Any) -> int:
        done = run_role("victoria_logs", tmp_path, {**options, **given}, "-vvv", "--diff", env=env)
        assert "CANARY" not in done.stdout + done.stderr
        return done.changed

    try:
        assert run(**login) > 0
        assert base64.b64decode((objects.get(secret) or {})["data"]["password"]) == b"CANARY"
        assert run(**login) == 0
        assert run() > 0 and objects.get(secret) is None
    finally:
        run(victoria_logs_state="absent", victoria_logs_remove_data=True)


def state(objects: Objects) -> dict[str, str]:
    """What there is, by its version."""
    found = {}
    for kind in ("namespaces", "secrets", "configmaps", "services"):
        for item in objects.request("GET", f"/api/v1/{kind}")["items"]:
            if item["metadata"].get("namespace", item["metadata"]["name"]) in CASES:
                found[f"{kind} {item['metadata']['name']}"] = item["metadata"]["resourceVersion"]
    return found

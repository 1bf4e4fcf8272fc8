# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Secret that VictoriaLogs can't use ends the role in one sentence, before anything of the cluster is changed.

A case is a host of a play, with a namespace of its own.
"""

from __future__ import annotations

import base64
import gzip
import json
import os
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.flaskops.observability.plugins.module_utils.kube.objects import Objects

from tests.api_rig import CONTEXT, Rig
from tests.fakes.certificates import certificate
from tests.harness import LONG, ROOT, failures, inventory_of, playbook, run_role, write_play
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


# Each host has an app and a VictoriaLogs in namespaces of its own: whether its release is marked, whether its Service asks for a
# login, and what the Secret of the schedule is.
SCHEDULES: dict[str, tuple[bool, bool, str]] = {
    "ours": (True, True, "[]"),
    "foreign": (False, True, "[]"),
    "former": (True, False, "[]"),
    "missing": (True, True, ""),
    "useless": (True, True, '{"password": "CANARY"'),
}
FAILED = {
    "missing": "Secret readers in namespace missing-app does not exist",
    "useless": "Secret readers in namespace useless-app",
}


@LONG
def test_the_scheduled_verification_may_read_the_login_of_our_release_only(rig: Rig, tmp_path: Path) -> None:
    """Its names are those of the release, whatever somebody wrote at the Service."""
    objects = Objects(rig.api)

    def make(
        kind: str, namespace: str, name: str, version: str = "v1", more: dict[str, Any] | None = None, **content: Any
    ) -> None:
        metadata = {"name": name, **({"namespace": namespace} if namespace else {}), **(more or {})}
        objects.apply({"apiVersion": version, "kind": kind, "metadata": metadata, **content}, "somebody")

    for name, (marked, asks, content) in SCHEDULES.items():
        app, logs = f"{name}-app", f"{name}-logs"
        make("Namespace", "", app)
        make("Namespace", "", logs)
        if content:
            make("Secret", app, "readers", stringData={"log_backends.json": content})
        labels = {"app.kubernetes.io/name": "victoria-logs-single", "app.kubernetes.io/managed-by": "Helm"}
        notes = {"meta.helm.sh/release-name": "logs", "meta.helm.sh/release-namespace": logs}
        notes |= {"flaskops/login-secret": "somebodys"} if asks else {}
        service = {"clusterIP": "None", "ports": [{"port": 9428}]}
        make("Service", logs, "logs", more={"labels": labels, "annotations": notes}, spec=service)
        annotations = {"flaskops/login-secret": "login", "flaskops/tls-secret": "tls"}
        release = {
            "name": "logs",
            "info": {"status": "deployed", "last_deployed": "2026-01-01T00:00:00Z"},
            "version": 1,
            "chart": {"metadata": {"name": "victoria-logs-single", "version": "1.0.0"}},
            "config": {"server": {"service": {"annotations": annotations}}},
            "manifest": "",
        }
        packed = base64.b64encode(gzip.compress(json.dumps(release).encode())).decode()
        stored = {"owner": "helm", "name": "logs", "status": "deployed", "version": "1"} | (
            {"flaskops/managed": "true"} if marked else {}
        )
        make("Secret", logs, "sh.helm.release.v1.logs.v1", more={"labels": stored}, stringData={"release": packed})
        rbac, role = "rbac.authorization.k8s.io/v1", f"{app}-shop-verify"
        part = {"app.kubernetes.io/name": "flaskops-verify", "app.kubernetes.io/managed-by": "flaskops"}
        ours = {"labels": {**part, "app.kubernetes.io/instance": "shop"}}
        rules = [{"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["old"], "verbs": ["get"]}]
        if name == "former":
            make("Role", logs, f"{role}-login", rbac, ours, rules=rules)
            reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": f"{role}-login"}
            make("RoleBinding", logs, f"{role}-login", rbac, ours, roleRef=reference)
            make("RoleBinding", "default", role, rbac, ours, roleRef=reference)
    options: dict[str, Any] = {
        "verify_kubeconfig": str(rig.kubeconfig()),
        "verify_context": CONTEXT,
        "verify_name": "shop",
        "verify_namespace": "{{ inventory_hostname }}-app",
        "verify_schedule": 60,
        "verify_schedule_image": "registry.example.com/runner:1",
        "verify_schedule_namespaces": ["{{ inventory_hostname }}-logs"],
        "verify_schedule_secret": "readers",
        "verify_alert_check": False,
        "verify_wait_timeout": 5,
    }
    path = write_play("verify", tmp_path)
    (play,) = yaml.safe_load(path.read_text())
    # The app is not there, and no pod ever runs here.
    play["module_defaults"] = {"flaskops.observability.objects": {"wait_timeout": 1}}
    path.write_text(yaml.safe_dump([play]))
    done = playbook(str(path), "-vvv", inventory=inventory_of(tmp_path, dict.fromkeys(SCHEDULES), **options))
    assert "CANARY" not in done.stdout + done.stderr
    assert done.stdout.count("failed=1 ") == len(SCHEDULES), done.stdout[-3000:]
    text = " ".join((done.stdout + done.stderr).split())
    assert "the login of VictoriaLogs in namespace foreign-logs, because its release logs was not made by" in text
    for words in FAILED.values():
        assert words in text
    granted = {}
    for item in objects.request("GET", "/apis/rbac.authorization.k8s.io/v1/roles")["items"]:
        if item["metadata"]["name"].endswith("-verify-login"):
            granted[item["metadata"]["namespace"]] = item["rules"][0]["resourceNames"]
    assert granted == {"ours-logs": ["login", "tls"]}
    bound = {
        (item["metadata"]["namespace"], item["metadata"]["name"])
        for item in objects.request("GET", "/apis/rbac.authorization.k8s.io/v1/rolebindings")["items"]
    }
    assert ("ours-logs", "ours-app-shop-verify-login") in bound and ("former-logs", "former-app-shop-verify") in bound
    assert {("former-logs", "former-app-shop-verify-login"), ("default", "former-app-shop-verify")}.isdisjoint(bound)
    for name in FAILED:
        assert objects.request("GET", f"/apis/apps/v1/namespaces/{name}-app/deployments")["items"] == []


def state(objects: Objects) -> dict[str, str]:
    """What there is, by its version."""
    found = {}
    for kind in ("namespaces", "secrets", "configmaps", "services"):
        for item in objects.request("GET", f"/api/v1/{kind}")["items"]:
            if item["metadata"].get("namespace", item["metadata"]["name"]) in CASES:
                found[f"{kind} {item['metadata']['name']}"] = item["metadata"]["resourceVersion"]
    return found

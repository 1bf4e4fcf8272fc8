# GNU General Public License v3.0 or later (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which Secrets the scheduled verification may read, and what of that it loses, as role verify makes it of what it finds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tests.evaluation import ROOT, evaluate

VERIFY = ROOT / "roles/verify"
LOGIN, TLS = "flaskops/login-secret", "flaskops/tls-secret"
NAMESPACES = ("ours", "foreign", "denied", "former")


def service(namespace: str, release: str = "logs", home: str = "", **more: str) -> dict[str, Any]:
    notes = {"meta.helm.sh/release-name": release, "meta.helm.sh/release-namespace": home or namespace, **more}
    return {"metadata": {"name": release, "namespace": namespace, "annotations": notes}}


def result(namespace: str, release: str, marked: bool, **annotations: str) -> dict[str, Any]:
    values = {"server": {"service": {"annotations": annotations}}}
    found = {release: {"status": "deployed", "marked": marked, "values": values}}
    return {"item": {"namespace": namespace, "release": release}, "releases": found}


def binding(kind: str, namespace: str, name: str) -> dict[str, Any]:
    return {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": {"name": name, "namespace": namespace}}


def test_only_a_release_of_ours_gives_a_login(tmp_path: Path) -> None:
    somebodys = {LOGIN: "somebodys"}
    stores = [
        {"metadata": {"name": "bare", "namespace": "ours"}},
        service("ours"),
        service("ours"),
        service("ours", "second", **somebodys),
        service("ours", **somebodys),
        service("ours", home="elsewhere", **somebodys),
        service("foreign", **somebodys),
        service("denied", **somebodys),
        service("unnamed", **somebodys),
    ]
    releases = [
        result("ours", "second", True, **{LOGIN: "second-login"}),
        result("ours", "logs", True, **{LOGIN: "login", TLS: "tls", "else": "no"}),
        result("foreign", "logs", False, **{LOGIN: "login"}),
        {"item": {"namespace": "denied", "release": "logs"}, "msg": "secrets is forbidden"},
    ]
    login, look = "shop-web-verify-login", "shop-web-verify"
    bindings = [
        [binding("RoleBinding", name, login) for name in ("ours", "foreign", "gone")]
        + [binding("RoleBinding", name, look) for name in ("ours", "gone", "shop")]
        + [binding("RoleBinding", "gone", "other-web-verify-login")],
        [binding("Role", name, login) for name in ("ours", "foreign", "gone")],
    ]
    given: dict[str, Any] = {
        "verify_name": "web",
        "verify_namespace": "shop",
        "verify_schedule_namespaces": list(NAMESPACES),
        "__verify_namespaces": {"resources": [{"metadata": {"name": name}} for name in (*NAMESPACES, "unnamed")]},
        "__verify_stores": {"resources": stores},
        "__verify_releases": {"results": releases},
        "__verify_bindings": {"results": [{"resources": found} for found in bindings]},
    }
    names = ("stores", "untrusted", "logins", "former")
    found = evaluate(tmp_path, {name: f"__verify_schedule_{name}" for name in names}, given, VERIFY)
    looked = [(item["namespace"], item["release"]) for item in found["stores"]]
    assert looked == [("ours", "second"), ("ours", "logs"), ("foreign", "logs"), ("denied", "logs")]
    assert found["logins"] == [{"namespace": "ours", "secrets": ["login", "second-login", "tls"]}]
    foreign, denied = found["untrusted"]
    assert foreign.startswith("foreign, because its release logs was not made") and "secrets is forbidden" in denied
    gone = {(item["kind"], item["metadata"]["namespace"], item["metadata"]["name"]) for item in found["former"]}
    assert gone == {
        ("RoleBinding", "gone", look),
        *((kind, name, login) for kind in ("Role", "RoleBinding") for name in ("foreign", "gone")),
    }


def test_the_secret_is_read_before_anything_is_changed() -> None:
    names = [task["name"] for task in yaml.safe_load((VERIFY / "tasks/main.yml").read_text())]
    assert names.index("Check what the schedule is given") < names.index("Verify the chain")

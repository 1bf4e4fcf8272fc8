# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which Secrets the scheduled verification may read, and what of that it loses, as role verify makes it of what it finds."""

from __future__ import annotations

from typing import Any

import yaml
from ansible_collections.flaskops.observability.plugins.module_utils.verify import schedule
from ansible_collections.flaskops.observability.plugins.module_utils.verify.schedule import KnownRelease

from tests.evaluation import ROOT

LOGIN, TLS = "flaskops/login-secret", "flaskops/tls-secret"
NAMESPACES = ("ours", "foreign", "denied", "former")


def service(namespace: str, release: str = "logs", home: str = "", **more: str) -> dict[str, Any]:
    notes = {"meta.helm.sh/release-name": release, "meta.helm.sh/release-namespace": home or namespace, **more}
    return {"metadata": {"name": release, "namespace": namespace, "annotations": notes}}


def release(marked: bool, **annotations: str) -> KnownRelease:
    return KnownRelease(marked, {"server": {"service": {"annotations": annotations}}})


def binding(kind: str, namespace: str, name: str) -> dict[str, Any]:
    return {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": {"name": name, "namespace": namespace}}


def test_only_a_release_of_ours_gives_a_login() -> None:
    somebodys = {LOGIN: "somebodys"}
    services = [
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
    looked = schedule.looks("shop", list(NAMESPACES), ["ours", "foreign", "denied", "unnamed", "shop"])
    assert looked == ["shop", "denied", "foreign", "ours"]
    places = schedule.stores(services, looked)
    assert places == [("ours", "second"), ("ours", "logs"), ("foreign", "logs"), ("denied", "logs")]
    releases = [
        release(True, **{LOGIN: "second-login"}),
        release(True, **{LOGIN: "login", TLS: "tls", "else": "no"}),
        release(False, **{LOGIN: "login"}),
        KnownRelease(error="secrets is forbidden"),
    ]
    found = dict(zip(places, releases, strict=True))
    assert schedule.logins(found, {}) == [{"namespace": "ours", "secrets": ["login", "second-login", "tls"]}]
    foreign, denied = schedule.untrusted(found)
    assert foreign.startswith("foreign, because its release logs was not made") and "secrets is forbidden" in denied


def test_only_a_reader_that_role_elastic_stack_made_is_a_login() -> None:
    def search(namespace: str, name: str, login: str = "") -> dict[str, Any]:
        notes = {LOGIN: login or f"{name}-user-reader", TLS: "any"}
        labels = {"elasticsearch.k8s.elastic.co/cluster-name": name}
        return {"metadata": {"name": f"{name}-es-http", "namespace": namespace, "labels": labels, "annotations": notes}}

    bare = {"metadata": {"name": "x", "namespace": "ours"}}
    # A Service that names another Secret leads nowhere.
    services = [
        bare,
        search("ours", "logs"),
        search("ours", "odd", "root-login"),
        search("far", "logs"),
        search("foreign", "logs"),
    ]
    places = schedule.searches(services, ["ours", "foreign", "denied"])
    assert places == [("ours", "logs"), ("foreign", "logs")]
    made, other = {"metadata": {"labels": {**schedule.ELASTIC, "more": "x"}}}, {"metadata": {"labels": {"app": "x"}}}
    release_of_ours = {("ours", "vl"): release(True, **{LOGIN: "login"})}
    assert schedule.logins(release_of_ours, {("ours", "logs"): made, ("foreign", "logs"): other, ("denied", "logs"): None}) == [
        {"namespace": "ours", "secrets": ["login", "logs-es-http-certs-public", "logs-user-reader"]}
    ]


def test_bindings_of_another_apps_schedule_are_left_alone() -> None:
    login, look = "shop-web-verify-login", "shop-web-verify"
    its = [binding("RoleBinding", "gone", look), binding("Role", "foreign", login), binding("RoleBinding", "shop", "web-verify")]
    others = [binding("RoleBinding", "gone", "other-web-verify-login"), binding("RoleBinding", "other", "web-verify")]
    assert schedule.former(its + others, "web", "shop") == its


def test_the_secret_is_read_before_anything_is_changed() -> None:
    tasks = yaml.safe_load((ROOT / "roles/verify/tasks/main.yml").read_text())
    reads = next(number for number, task in enumerate(tasks) if "flaskops.observability.schedule_access" in task)
    assert reads < [task["name"] for task in tasks].index("Verify the chain")

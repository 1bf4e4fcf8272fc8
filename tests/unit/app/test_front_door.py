# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role flask_app makes of host names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flaskops.observability.plugins.filter.front_door import front_door

from .test_pod_spec import objects

SERVICE: dict[str, Any] = {"name": "shop", "namespace": "web", "ports": [{"name": "http", "port": 80}], "port": 5000}
TWO = [{"name": "shop.test"}, {"name": "www.shop.test", "path": "/shop"}]


def made(hosts: list[dict[str, Any]], **options: Any) -> dict[str, Any]:
    found = front_door(hosts, **{**SERVICE, **options})
    assert found["problem"] == ""
    return found


def test_no_host_makes_nothing() -> None:
    assert made([]) == {"objects": [], "secrets": [], "problem": ""}


def test_hosts_make_an_ingress() -> None:
    hosts = [{"name": "shop.test", "tls_secret": "one"}, {"name": "*.shop.test", "path": "/a", "tls_secret": "one"}]
    hosts += [{"name": "shop.test", "path": "/b", "tls_secret": "one"}, {"name": "plain.test"}]
    found = made(hosts, ingress_class="nginx")
    (ingress,) = found["objects"]
    assert (ingress["kind"], ingress["name"], ingress["annotations"]) == ("Ingress", "shop", {})
    assert ingress["spec"]["ingressClassName"] == "nginx"
    assert ingress["spec"]["tls"] == [{"secretName": "one", "hosts": ["shop.test", "*.shop.test"]}]
    paths = {rule["host"]: [path["path"] for path in rule["http"]["paths"]] for rule in ingress["spec"]["rules"]}
    assert paths == {"shop.test": ["/", "/b"], "*.shop.test": ["/a"], "plain.test": ["/"]}
    assert found["secrets"] == [{"name": "one", "namespace": "web", "keys": ["tls.crt", "tls.key"], "type": "kubernetes.io/tls"}]


@pytest.mark.parametrize(
    ("issuer", "note"),
    [
        ({"name": "acme"}, {"cert-manager.io/cluster-issuer": "acme"}),
        ({"name": "own", "kind": "Issuer"}, {"cert-manager.io/issuer": "own"}),
    ],
)
def test_what_an_issuer_makes_need_not_be_there(issuer: dict[str, str], note: dict[str, str]) -> None:
    found = made([*TWO, {"name": "own.test", "tls_secret": "own"}], tls_issuer=issuer)
    (ingress,) = found["objects"]
    assert (ingress["annotations"], found["secrets"]) == (note, [])
    assert [entry["secretName"] for entry in ingress["spec"]["tls"]] == ["shop-tls", "own"]


def test_a_gateway_gets_a_route_for_each_path() -> None:
    found = made(TWO, gateway={"name": "public", "namespace": "gateways", "section": "https"})
    assert [(item["kind"], item["name"], item["spec"]["hostnames"]) for item in found["objects"]] == [
        ("HTTPRoute", "shop", ["shop.test"]),
        ("HTTPRoute", "shop-2", ["www.shop.test"]),
    ]
    assert found["objects"][0]["spec"]["parentRefs"] == [{"name": "public", "namespace": "gateways", "sectionName": "https"}]
    (parent,) = made(TWO, gateway={"name": "public"})["objects"][0]["spec"]["parentRefs"]
    assert parent == {"name": "public", "namespace": "web"}


@pytest.mark.parametrize(
    ("ports", "wanted"),
    [
        ([{"port": 80}], 80),
        ([{"port": 1, "targetPort": 9}, {"port": 2, "targetPort": "http"}], 2),
        ([{"port": 1, "targetPort": 9}, {"port": 3, "targetPort": 5000}], 3),
    ],
)
def test_hosts_lead_to_the_port_of_the_application(ports: list[dict[str, Any]], wanted: int) -> None:
    (ingress,), (route,) = (
        made([{"name": "shop.test"}], ports=ports, gateway=gateway)["objects"] for gateway in ({}, {"name": "g"})
    )
    assert ingress["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"] == {"name": "shop", "port": {"number": wanted}}
    assert route["spec"]["rules"][0]["backendRefs"] == [{"name": "shop", "port": wanted}]


@pytest.mark.parametrize(
    ("hosts", "options", "word"),
    [
        ([{"name": "Shop.test"}], {}, "Shop.test"),
        ([{"name": "https://shop.test"}], {}, "https://shop.test"),
        ([{"name": "a.*.test"}], {}, "a.*.test"),
        ([{"name": "shop.test", "path": "shop"}], {}, "slash"),
        ([{"name": "a.test", "path": f"/{one}", "tls_secret": one} for one in ("x", "y")], {}, "a.test with the Secrets x and y"),
        (TWO, {"tls_issuer": {"kind": "Issuer"}}, "tls_issuer has no name"),
        (TWO, {"tls_issuer": {"name": "acme", "kind": "Certificate"}}, "kind Certificate"),
        (TWO, {"gateway": {"namespace": "g"}}, "gateway has no name"),
        (TWO, {"gateway": {"name": "g"}, "ingress_class": "nginx"}, "ingress_class"),
        (TWO, {"gateway": {"name": "g"}, "tls_issuer": {"name": "acme"}}, "tls_issuer"),
        ([{"name": "shop.test", "tls_secret": "x"}], {"gateway": {"name": "g"}}, "tls_secret"),
    ],
)
def test_what_can_not_be_used_is_named(hosts: list[dict[str, Any]], options: dict[str, Any], word: str) -> None:
    found = front_door(hosts, **{**SERVICE, **options})
    assert word in found["problem"] and found["objects"] == []


def test_the_role_makes_what_the_hosts_say(tmp_path: Path) -> None:
    found = objects(
        tmp_path,
        hosts=[{"name": "shop.test"}],
        tls_issuer={"name": "acme"},
        annotations={"note": "n"},
        ingress_annotations={"size": "8m"},
        service_ports=[{"name": "https", "port": 443}],
    )
    ingress = found["Ingress shop"]
    assert ingress["metadata"]["annotations"] == {"note": "n", "size": "8m", "cert-manager.io/cluster-issuer": "acme"}
    assert ingress["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]["port"] == {"number": 443}
    assert "HTTPRoute shop" in objects(tmp_path, hosts=[{"name": "shop.test"}], gateway={"name": "g"})

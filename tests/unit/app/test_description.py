# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The description of an application: every option reaches the roles, and nothing that a user writes is ignored."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.flaskops.observability.plugins.module_utils.app import description
from ansible_collections.flaskops.observability.plugins.module_utils.app.description import DescriptionError, described, ignored
from ansible_collections.flaskops.observability.plugins.module_utils.external_checks.addresses import of_apps, of_service
from ansible_collections.flaskops.observability.plugins.modules.flask_apps import DOCUMENTATION

ROOT = Path(__file__).resolve().parents[3]
SPEC = description.spec_of(DOCUMENTATION)
# The default of one application follows its name.
FOLLOWS = {"flask_image_repository"} | {f"{role}_namespace" for role in description.ROLES}


def options_of(role: str) -> dict[str, Any]:
    found = yaml.safe_load((ROOT / f"roles/{role}/meta/argument_specs.yml").read_text())
    return dict(found["argument_specs"]["main"]["options"])


def of(key: str) -> dict[str, Any]:
    """The option of a key such as drill.path."""
    first, _, rest = key.partition(".")
    return SPEC[first]["options"][rest] if rest else SPEC[first]


def decided() -> list[tuple[str, str, dict[str, Any]]]:
    """The variables of roles that an application decides, with their keys, and their options in the roles."""
    roles = {name: option for role in description.ROLES for name, option in options_of(role).items()}
    return [(name, key, roles[name]) for name, key in sorted(description.variables(SPEC).items()) if name in roles]


def test_every_key_is_an_option_of_a_role_and_reaches_it() -> None:
    stages = {path: path.read_text() for path in (ROOT / "playbooks").rglob("*.yml") if path.name != "teardown.yml"}
    given = {m[1]: m[2] for text in stages.values() for m in re.finditer(r"^ +(\w+): (.*\bapp\..*)$", text, re.MULTILINE)}
    for name, key, _option in decided():
        assert re.search(rf"\bapp\.{re.escape(key)}\b", given.get(name, "")), f"{name} is not given {key}"
    reached = {key.split(".")[0] for _name, key, _option in decided()} | {"external_checks"}
    assert SPEC.keys() - reached == set()
    assert {key for role in description.OWN for key in SPEC[role]["options"]} == {
        key.split(".")[1] for _name, key, _option in decided() if "." in key
    }


# What these roles are given about the host, the cluster or the run.
OF_THE_HOST = {
    "flask_image": {"state", "base", "platform", "rebuild", "trust_host_ca", "engine", "delivery", "local_cluster"},
    "flask_app": {"refused_environment", "environment_name"},
    "app_monitoring": {
        *{
            "deployment",
            "prober_url",
            "evaluation_interval",
            "grafana_url",
            "promtool",
            "prometheus_name",
            "prometheus_namespace",
        },
        *{"dashboards", "grafana_namespace", "dashboards_labels", "dashboards_folder"},
    },
    "verify": {
        *{"external_checks_environment_name", "check_names", "dead_mans_switch"},
        *{"state", "external_checks", "notify", "receivers", "log_backends", "app_only", "skipped", "report", "junit"},
        *{f"schedule_{word}" for word in ("namespaces", "image", "local_cluster", "engine", "secret", "monitoring_labels")},
    },
    "drill": {
        *{
            "state",
            "image",
            "environment_name",
            "external_checks",
            "external_checks_environment_name",
            "scenarios",
            "notice_timeout",
            "settle_timeout",
            "report",
        },
        *{"safe_environments", "cluster_label", "confirm", "lock_namespace"},
    },
}


@pytest.mark.parametrize("role", description.ROLES)
def test_every_option_of_a_role_is_the_application_s_or_the_host_s(role: str) -> None:
    of_app = {name.removeprefix(f"{role}_") for name, _key, _option in decided() if name.startswith(f"{role}_")}
    found = {name.removeprefix(f"{role}_") for name in options_of(role)} - of_app
    assert found == OF_THE_HOST[role] | ({"kubeconfig", "context", "wait_timeout"} if role != "flask_image" else set())


@pytest.mark.parametrize(("name", "key", "option"), [pytest.param(*row, id=row[0]) for row in decided()])
def test_an_option_is_the_same_in_a_role(name: str, key: str, option: dict[str, Any]) -> None:
    ours = of(key)
    for field in ("type", "elements", "choices"):
        assert ours.get(field) == option.get(field)
    if name not in FOLLOWS and key != "name":
        assert ours.get("default") == option.get("default")


def test_an_application_has_every_option() -> None:
    (app,) = described(SPEC, [{"name": "shop"}], {})
    assert sorted(app) == sorted(SPEC)
    assert (app["namespace"], app["port"], app["health_path"], app["verify"]["schedule"]) == ("shop", 5000, "/health", 0)
    assert sorted(app["drill"]) == sorted(SPEC["drill"]["options"]) and app["drill"]["memory_limit"] == "16Mi"


def test_defaults_are_under_what_an_application_says() -> None:
    common = {"replicas": 3, "alerts": {"A": {"for": "1m"}, "B": {"for": "2m"}}, "verify": {"schedule": 300}, "extras": ["a"]}
    given = {"name": "shop", "alerts": {"B": {"window": "5m"}}, "verify": {"alert_check": False}, "extras": ["b"]}
    (app,) = described(SPEC, [given], common)
    assert app["alerts"] == {"A": {"for": "1m"}, "B": {"for": "2m", "window": "5m"}}
    assert (app["replicas"], app["extras"]) == (3, ["b"])
    assert (app["verify"]["schedule"], app["verify"]["alert_check"]) == (300, False)


def test_what_nobody_said_of_a_receiver_is_not_handed_on() -> None:
    receivers = [{"name": "night", "type": "webhook", "url": "http://night.test/"}]
    (app,) = described(SPEC, [{"name": "shop", "receivers": receivers}], {})
    assert app["receivers"] == receivers


@pytest.mark.parametrize(
    ("port", "path", "asked"), [(0, "/cart", "/up"), (5000, "/cart", "/up"), (8081, "/cart", "/cart"), (8081, "", "/")]
)
def test_outside_checks_ask_where_users_do(port: int, path: str, asked: str) -> None:
    (app,) = described(SPEC, [{"name": "shop", "health_path": "/up", "health_port": port, "path": path}], {})
    assert [check["path"] for check in of_apps([app])] == [asked]


HEALTH_ELSEWHERE = {"health_path": "/up", "path": "/shop/cart"}


@pytest.mark.parametrize(
    ("hosts", "options", "url"),
    [
        ([{"name": "a.test"}], {"health_path": "/up"}, "http://a.test/up"),
        ([{"name": "a.test", "tls_secret": "tls"}, {"name": "b.test"}], {}, "https://a.test/health"),
        ([{"name": "a.test"}], {"tls_issuer": {"name": "acme"}}, "https://a.test/health"),
        ([{"name": "a.test"}], {"gateway": {"name": "g"}}, "https://a.test/health"),
        # The health check is not below the path that users reach.
        ([{"name": "a.test", "path": "/shop"}], {"health_path": "/shop/up"}, "http://a.test/shop/up"),
        ([{"name": "a.test", "path": "/shop"}], HEALTH_ELSEWHERE, "http://a.test/shop/cart"),
        ([{"name": "a.test", "path": "/sho"}], HEALTH_ELSEWHERE, "http://a.test/sho"),
        ([{"name": "a.test"}], {"health_port": 8081}, "http://a.test/"),
        ([{"name": "*.test"}, {"name": "a.test"}], {"health_path": "/up"}, "http://a.test/up"),
        ([{"name": "*.test"}, {"name": "a.test", "path": "/shop"}], {}, "http://a.test/shop"),
    ],
)
def test_what_is_asked_of_hosts(hosts: list[dict[str, str]], options: dict[str, Any], url: str) -> None:
    (app,) = described(SPEC, [{"name": "shop", "hosts": hosts, "public_url": "hosts", **options}], {})
    assert app["public_url"] == url
    assert [check["path"] for check in of_apps([{**app, "external_checks": [{}]}])] == [
        url.removeprefix("https:").removeprefix("http:")[8:]
    ]


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        ({}, True),
        ({"probe": False}, False),
        ({"replicas": 0}, False),
        ({"replicas": "0"}, False),
        ({"replicas": 0, "autoscale": {"max": 3}}, True),
        ({"replicas": None}, True),
    ],
)
def test_the_health_of_an_application_without_pods_is_not_asked(options: dict[str, Any], asked: bool) -> None:
    assert described(SPEC, [{"name": "shop", **options}], {})[0]["probe"] is asked


def test_the_first_host_is_asked_below_its_own_path() -> None:
    hosts = [{"name": "a.test", "path": "/shop"}, {"name": "b.test"}]
    (app,) = described(SPEC, [{"name": "shop", "hosts": hosts, "public_url": "hosts"}], {})
    assert app["public_url"] == "http://a.test/shop"


@pytest.mark.parametrize(
    ("ports", "address"),
    [
        ([{"port": 80}, {"port": 443}], "http://lb.test"),
        ([{"port": 443}, {"port": 80}], "https://lb.test"),
        ([{"port": 8080}], "http://lb.test:8080"),
        ([{"port": 8443, "appProtocol": "https"}], "https://lb.test:8443"),
        ([{"port": 80, "appProtocol": "https"}], "https://lb.test:80"),
    ],
)
def test_outside_checks_ask_the_first_port_as_it_answers(ports: list[dict[str, Any]], address: str) -> None:
    status = {"loadBalancer": {"ingress": [{"hostname": "lb.test"}]}}
    assert of_service({"spec": {"ports": ports}, "status": status}) == address


def test_null_leaves_the_number_of_pods_to_others() -> None:
    (app,) = described(SPEC, [{"name": "shop", "replicas": None}], {"replicas": 3})
    assert app["replicas"] is None


WRONG: dict[str, tuple[list[Any], dict[str, Any], list[str]]] = {
    "no name": ([{"port": 1}], {}, ["Entry 1", "name"]),
    "a name in capitals": ([{"name": "Shop"}], {}, ["Shop", "letters"]),
    "a long name": ([{"name": "a" * 47}], {}, ["46"]),
    "a typo": ([{"name": "shop", "prot": 80}], {}, ["shop", "prot", "port"]),
    "a typo in a mapping": ([{"name": "shop", "drill": {"pat": "/"}}], {}, ["drill.pat", "path"]),
    "a typo in a list": ([{"name": "shop", "receivers": [{"nam": "x"}]}], {}, ["receivers.nam", "name"]),
    "a typo in the defaults": ([], {"prot": 80}, ["flask_app_defaults", "prot", "port"]),
    "a name for all": ([], {"name": "shop"}, ["flask_app_defaults", "name"]),
    "no number": ([{"name": "shop", "port": "http"}], {}, ["shop", "port"]),
    "no port": ([{"name": "shop", "port": 70000}], {}, ["shop", "port 70000", "65535"]),
    "no port in the defaults": ([{"name": "shop"}], {"metrics_port": 0}, ["shop", "metrics_port 0"]),
    "no port of the health check": ([{"name": "shop", "health_port": 70000}], {}, ["shop", "health_port 70000", "65535"]),
    "no choice": ([{"name": "shop", "service_type": "Magic"}], {}, ["shop", "service_type", "ClusterIP"]),
    "no page": ([{"name": "shop", "path": "cart"}], {}, ["shop", "path", "slash"]),
    "the drill's old path": ([{"name": "shop", "drill": {"path": "/cart"}}], {}, ["shop", "unknown key drill.path"]),
    "no path": ([{"name": "shop", "health_path": "healthz"}], {}, ["shop", "health_path", "slash"]),
    "an address of no host": ([{"name": "shop", "public_url": "hosts"}], {}, ["shop", "public_url"]),
    "an address of any host": (
        [{"name": "shop", "public_url": "hosts", "hosts": [{"name": "*.test"}]}],
        {},
        ["shop", "public_url"],
    ),
    "a namespace in capitals": ([{"name": "shop", "namespace": "Web"}], {}, ["shop", "Web"]),
    "twice": ([{"name": "shop"}, {"name": "shop", "namespace": "shop"}], {}, ["shop", "twice"]),
}


@pytest.mark.parametrize(("apps", "defaults", "words"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_said(apps: list[Any], defaults: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(DescriptionError) as raised:
        described(SPEC, apps, defaults, "staging")
    assert [word for word in [*words, "staging"] if word not in str(raised.value)] == []


def test_no_value_that_may_be_a_secret_is_said() -> None:
    for key in ("environment", "build_args", "build_secrets"):
        with pytest.raises(DescriptionError) as raised:
            described(SPEC, [{"name": "shop", key: ["CANARY"]}], {})
        assert key in str(raised.value) and "CANARY" not in str(raised.value)


def test_variables_without_effect_are_named_with_their_keys() -> None:
    found = ignored(
        SPEC,
        [
            "flask_app_port",
            "drill_error_path",
            "drill_path",
            "verify_schedule",
            "app_monitoring_alerts",
            "external_checks_checks",
        ],
    )
    assert dict(found) == {
        "flask_app_port": "port",
        "drill_error_path": "drill.error_path",
        "drill_path": "path",
        "verify_schedule": "verify.schedule",
        "app_monitoring_alerts": "alerts",
        "external_checks_checks": "external_checks",
    }
    hosts = ["flask_app_kubeconfig", "drill_image", "drill_environment_name", "verify_state", "drill_scenarios"]
    assert ignored(SPEC, hosts) == []

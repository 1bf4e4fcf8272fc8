# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Of several pods each is asked: Prometheus and Alertmanager with replicas and shards."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from ansible_collections.flaskops.observability.plugins.module_utils.verify import run as running
from ansible_collections.flaskops.observability.plugins.module_utils.verify.links import alert_path

from .test_verify_checks import pod
from .test_verify_stack import (
    ALERTMANAGER_PAGE,
    CONFIG,
    LINKS,
    LOADED,
    OPERATOR,
    PARTS,
    PROMETHEUS,
    SERVER,
    TEST_RULE,
    FakeStack,
    data,
    group,
    owned,
    run,
    target,
)

PODS = "/api/v1/namespaces/monitoring/pods"
OF = {"prometheus": 9090, "alertmanager": 9093}


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "SETTLE", 0)
    monkeypatch.setattr(alert_path, "PAUSE", 0.01)


def api(name: str) -> str:
    return f"{PODS}/{name}:{OF[name.split('-')[0]]}/proxy"


class Several(FakeStack):
    """Two pods of each, which answer as the Service of one does, but for *changes* below the path of a pod."""

    def __init__(self, shards: int = 1, replicas: int = 2, **changes: Any) -> None:
        super().__init__()
        self.asked: list[str] = []
        server = {**SERVER, "spec": {"replicas": replicas, "shards": shards}}
        self.pods = {}
        for shard in range(shards):
            for replica in range(replicas):
                found = pod(f"prometheus-stack{f'-shard-{shard}' if shard else ''}-{replica}")
                found["metadata"]["labels"] = {"app.kubernetes.io/name": "prometheus", "operator.prometheus.io/shard": str(shard)}
                self.pods[found["metadata"]["name"]] = found
        for replica in range(2):
            found = pod(f"alertmanager-stack-{replica}", podIP=f"10.0.0.{replica}")
            found["metadata"]["labels"] = {"alertmanager": "stack"}
            self.pods[found["metadata"]["name"]] = found
        self.answers |= {
            f"{OPERATOR}/prometheuses": (200, {"items": [server]}),
            f"{OPERATOR}/namespaces/monitoring/prometheuses/stack": (200, server),
            f"{OPERATOR}/namespaces/monitoring/alertmanagers": (200, {"items": [{**SERVER, "spec": {"replicas": 2}}]}),
        }
        active = [{"url": f"http://10.0.0.{number}:9093/api/v2/alerts"} for number in range(2)]
        for name in self.pods:
            if name.startswith("prometheus"):
                self.answers |= {
                    f"{api(name)}/api/v1/targets": self.answers[f"{PROMETHEUS}/targets"],
                    f"{api(name)}/api/v1/rules": self.answers[f"{PROMETHEUS}/rules"],
                    f"{api(name)}/api/v1/status/runtimeinfo": data(reloadConfigSuccess=True, lastConfigTime=name),
                    f"{api(name)}/api/v1/status/config": data(yaml=f"replica: {name}"),
                    f"{api(name)}/api/v1/alertmanagers": data(activeAlertmanagers=active),
                }
            else:
                status = {"config": {"original": CONFIG}, "cluster": {"peers": [{}, {}]}}
                self.answers |= {
                    f"{api(name)}/metrics": self.answers[ALERTMANAGER_PAGE],
                    f"{api(name)}/api/v2/status": (200, status),
                }
        self.answers |= changes

    def fetch(self, path: str, headers: Any = None, seconds: float = 10) -> tuple[int, str]:
        parts = urlsplit(path)
        self.asked.append(parts.path)
        if parts.path == PODS:
            wanted = "alertmanager" if "alertmanager" in parts.query else "prometheus"
            return 200, json.dumps({"items": [found for name, found in self.pods.items() if name.startswith(wanted)]})
        if parts.path.startswith(f"{PODS}/prometheus") and parts.path.endswith("/query"):
            return super().fetch(f"{PROMETHEUS}/query?{parts.query}", headers, seconds)
        return super().fetch(path, headers, seconds)


def blamed(results: dict[str, Any]) -> dict[str, str]:
    return {name: r["cause"] for name, r in results.items() if r["status"] == "failed" and not r["follows"]}


ONE, TWO = "prometheus-stack-0", "prometheus-stack-1"
AM_ONE, AM_TWO = "alertmanager-stack-0", "alertmanager-stack-1"
DOWN = data(activeTargets=[target("pod-1"), target("pod-2", "down", "connection refused")])
FAILING = data(groups=[group([{**LOADED, "lastError": "many"}]), group([TEST_RULE], "test", "test")])
REFUSED_PAGE = (200, "alertmanager_config_last_reload_successful 0\n")
LONELY = {"config": {"original": CONFIG}, "cluster": {"peers": [{}]}}
OTHER = {"config": {"original": CONFIG + "# old\n"}, "cluster": {"peers": [{}, {}]}}


@pytest.mark.parametrize(
    ("changes", "link", "cause"),
    [
        ({f"{api(TWO)}/api/v1/targets": data(activeTargets=[target("pod-1")])}, "target", f"{TWO}: no target for pod pod-2"),
        ({f"{api(TWO)}/api/v1/targets": DOWN}, "target", f"{TWO}: http://pod-2:9200/metrics: connection refused"),
        ({f"{api(TWO)}/api/v1/targets": (503, "no route")}, "target", f"{TWO}: no route"),
        ({f"{api(TWO)}/api/v1/rules": data(groups=[group([TEST_RULE], "test", "test")])}, "rules", f"{TWO}: 0 of 1 rules"),
        (
            {
                f"{api(ONE)}/api/v1/rules": data(
                    groups=[group([{**LOADED, "lastError": "many"}]), group([TEST_RULE], "test", "test")]
                )
            },
            "rules",
            f"{ONE}: A: many",
        ),
        (
            {f"{api(TWO)}/api/v1/status/runtimeinfo": data(reloadConfigSuccess=False, lastConfigTime="")},
            "prometheus",
            f"{TWO}: Prometheus refused its newest configuration",
        ),
        (
            {f"{api(ONE)}/api/v1/status/config": data(yaml="old")},
            "prometheus",
            f"{ONE} runs with another config",
        ),
        ({f"{api(TWO)}/api/v1/alertmanagers": data(activeAlertmanagers=[])}, "alertmanager", f"{TWO}: Prometheus knows no"),
        (
            {f"{api(TWO)}/api/v1/alertmanagers": data(activeAlertmanagers=[{"url": "http://10.0.0.0:9093/api/v2/alerts"}])},
            "alertmanager",
            f"{TWO}: Prometheus does not send to {AM_TWO}",
        ),
        ({f"{api(AM_TWO)}/metrics": REFUSED_PAGE}, "alertmanager", f"{AM_TWO}: Alertmanager refused"),
        ({f"{api(AM_TWO)}/api/v2/status": (200, LONELY)}, "alertmanager", f"{AM_TWO} reaches 1 of 2 pods"),
        (
            {f"{api(AM_TWO)}/api/v2/status": (200, OTHER)},
            "alertmanager",
            f"{AM_TWO} runs with another config",
        ),
    ],
)
def test_the_pod_that_differs_is_named(changes: dict[str, Any], link: str, cause: str) -> None:
    found = blamed(run(Several(**changes)))
    assert list(found) == [link] and cause in found[link]


def test_each_of_several_pods_is_asked() -> None:
    cluster = Several()
    results = run(cluster)
    asked = [name for name in LINKS if name not in ("grafana", "dead man's switch")]
    assert blamed(results) == {} and {results[name]["status"] for name in asked} == {"ok"}
    for name in (ONE, TWO):
        assert {f"{api(name)}/api/v1/{what}" for what in ("targets", "rules", "status/config")} <= set(cluster.asked)
    assert {f"{api(name)}/metrics" for name in (AM_ONE, AM_TWO)} <= set(cluster.asked)
    # What is wrong everywhere is no pod's affair.
    nothing = {f"{api(name)}/api/v1/rules": data(groups=[]) for name in (ONE, TWO)}
    assert blamed(run(Several(**nothing)))["rules"].startswith("0 of 1 rules")


def test_a_scrape_pool_that_one_replica_lacks() -> None:
    probe = {**target("pod-1"), "labels": {"namespace": "flask-app"}, "scrapePool": "probe/flask-app/flask-app"}
    more = data(activeTargets=[target("pod-1"), target("pod-2"), probe])
    found = blamed(run(Several(**{f"{api(ONE)}/api/v1/targets": more})))
    assert found == {"target": f"{TWO}: no target of probe/flask-app/flask-app, which another replica has"}


SHARD = "prometheus-stack-shard-1-0"


def test_shards_have_their_own_targets_alone() -> None:
    split = {
        f"{api(ONE)}/api/v1/targets": data(activeTargets=[target("pod-1")]),
        f"{api(SHARD)}/api/v1/targets": data(activeTargets=[target("pod-2")]),
        f"{api(ONE)}/api/v1/status/config": data(yaml="regex: 0"),
    }
    cluster = Several(shards=2, replicas=1, **split)
    results = run(cluster)
    assert blamed(results) == {}
    assert "2 pods scraped through 2 targets by 2 pods of Prometheus" in results["target"]["evidence"]
    # The series of a target are at one of them.
    assert {f"{api(name)}/api/v1/query" for name in (ONE, SHARD)} <= set(cluster.asked)
    split[f"{api(SHARD)}/api/v1/targets"] = data(activeTargets=[])
    assert "no target for pod pod-2" in blamed(run(Several(shards=2, replicas=1, **split)))["target"]


def test_one_pod_is_asked_through_its_service_as_ever() -> None:
    asked: list[str] = []

    class Counted(FakeStack):
        def fetch(self, path: str, headers: Any = None, seconds: float = 10) -> tuple[int, str]:
            asked.append(urlsplit(path).path)
            return super().fetch(path, headers, seconds)

    run(Counted())
    assert asked.count(PODS) == 3  # when it was started, and the links prometheus and alertmanager
    assert not [path for path in asked if path.startswith(f"{PODS}/")]
    assert sum(path.endswith("/api/v1/targets") for path in asked) == 1


class Shared(FakeStack):
    """Two Prometheus and two Alertmanagers in one namespace, whose Services therefore lead to any of them.

    :param sends: whom Prometheus sends to.
    """

    def __init__(self, sends: tuple[str, ...], **changes: Any) -> None:
        super().__init__()
        other = {**SERVER, "metadata": {**SERVER["metadata"], "name": "other"}}
        made_for = owned("flask-app", [*PARTS, "Prometheus/monitoring/stack"])
        active = data(
            activeAlertmanagers=[{"url": f"http://10.0.0.{'12'[name == 'other']}:9093/api/v2/alerts"} for name in sends]
        )
        self.answers |= {
            f"{OPERATOR}/prometheuses": (200, {"items": [other, SERVER]}),
            f"{OPERATOR}/namespaces/flask-app/servicemonitors": (200, {"items": [made_for]}),
            f"{OPERATOR}/namespaces/monitoring/alertmanagers": (200, {"items": [other, SERVER]}),
            f"{PROMETHEUS}/alertmanagers": active,
            f"{self.pod('alertmanager-other', 9093)}/api/v2/status": NOBODY,
            f"{self.pod('alertmanager-other', 9093)}/metrics": self.answers[ALERTMANAGER_PAGE],
            **changes,
        }

    @staticmethod
    def pod(name: str, port: int) -> str:
        return f"{PODS}/{name}:{port}/proxy"

    def fetch(self, path: str, headers: Any = None, seconds: float = 10) -> tuple[int, str]:
        assert "-operated" not in path, "nobody knows whom that reaches"
        parts = urlsplit(path)
        if parts.path == PODS:
            (selector,) = parse_qs(parts.query)["labelSelector"]
            name = f"{'alertmanager' if 'alertmanager' in selector else 'prometheus'}-{selector.rpartition('=')[2]}"
            return 200, json.dumps({"items": [pod(name, podIP=f"10.0.0.{'12'[name.endswith('other')]}")]})
        if path.split("?")[0] in self.answers:
            return super().fetch(path, headers, seconds)
        for name, port in (("prometheus-stack", 9090), ("alertmanager-stack", 9093), ("alertmanager-other", 9093)):
            service = f"/api/v1/namespaces/monitoring/services/{name.split('-')[0]}-operated:{port}/proxy"
            path = path.replace(self.pod(name, port), service)
        return super().fetch(path, headers, seconds)


NOBODY = (200, {"config": {"original": CONFIG.replace("team", "none")}})


@pytest.mark.parametrize(
    ("sends", "changes", "blamed_on"),
    [
        (("stack",), {}, None),
        # One that notifies is enough.
        (("stack", "other"), {}, None),
        (("other",), {}, "alert routes"),
        (("stack", "other"), {f"{Shared.pod('alertmanager-stack', 9093)}/api/v2/status": NOBODY}, "alert routes"),
        (("stack", "other"), {f"{Shared.pod('alertmanager-other', 9093)}/metrics": REFUSED_PAGE}, "alertmanager"),
        (("stack",), {f"{Shared.pod('alertmanager-other', 9093)}/metrics": REFUSED_PAGE}, None),
    ],
)
def test_those_of_the_app_are_asked_of_several_in_one_namespace(
    sends: tuple[str, ...], changes: dict[str, Any], blamed_on: str | None
) -> None:
    assert list(blamed(run(Shared(sends, **changes), alert_check=False))) == ([blamed_on] if blamed_on else [])


def test_a_stack_that_speaks_tls_under_names_of_its_own() -> None:
    class Encrypted(FakeStack):
        def fetch(self, path: str, headers: Any = None, seconds: float = 10) -> tuple[int, str]:
            assert "-operated" not in path
            for kind, port in (("prometheus", 9090), ("alertmanager", 9093)):
                path = path.replace(f"/https:my-{kind}:{port}/", f"/{kind}-operated:{port}/")
            return super().fetch(path, headers, seconds)

    def with_tls(kind: str) -> dict[str, Any]:
        return {**SERVER, "spec": {"replicas": 1, "serviceName": f"my-{kind}", "web": {"tlsConfig": {"keySecret": {}}}}}

    cluster = Encrypted()
    cluster.answers |= {
        f"{OPERATOR}/prometheuses": (200, {"items": [with_tls("prometheus")]}),
        f"{OPERATOR}/namespaces/monitoring/prometheuses/stack": (200, with_tls("prometheus")),
        f"{OPERATOR}/namespaces/monitoring/alertmanagers": (200, {"items": [with_tls("alertmanager")]}),
    }
    assert blamed(run(cluster)) == {}

# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two applications in namespaces of their own, watched by the shared cluster's stack: faults are caused, and their alerts
arrive at the alert inbox and resolve."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import yaml
from ansible_collections.flaskops.observability.plugins.module_utils.kube.transport import ApiError, KubeCluster, read_object
from ansible_collections.flaskops.observability.plugins.module_utils.monitoring import dashboards, rules
from kubernetes import client

from tests.harness import LONG, Cluster, Run, failures, playbook, until

ROOT = Path(__file__).resolve().parents[2]
PLAY = """\
- name: Run one role for each application
  hosts: localhost
  gather_facts: false
  tasks:
    - name: Run it
      ansible.builtin.include_role:
        name: flaskops.observability.{role}
      vars:
        {role}_name: "{{{{ app.name }}}}"
        {role}_namespace: "{{{{ app.namespace }}}}"
        {role}_kubeconfig: "{{{{ cluster_kubeconfig }}}}"
        {role}_context: "{{{{ cluster_context }}}}"
      loop: "{{{{ apps }}}}"
      loop_control: {{loop_var: app}}
"""
# docs/alerts.md gives these times to test clusters.
SHORT: dict[str, Any] = yaml.safe_load((ROOT / "docs/alerts.md").read_text().split("```yaml\n")[1].split("```")[0])
PROFILE = {key: value for key, value in SHORT.items() if key.startswith("app_monitoring_")}
PROFILE |= {f"app_monitoring_{key}": value for key, value in SHORT["flask_app_defaults"].items()}
GROUP_WAIT, GROUP_INTERVAL = 1, 5  # seconds, of the shared cluster's Alertmanager
STACK_SCRAPE = 5  # seconds between two looks at kube-state-metrics
SHOP = {"name": "shop", "namespace": "alerts-shop"}
BLOG = {"name": "blog", "namespace": "alerts-blog"}


def wait_for(what: str, look: Callable[[], Any], seconds: float) -> Any:
    """The first true answer of *look*; a proxy that is busy for a moment is asked again."""
    return until(look, seconds, what, passing=(ApiError,))


@dataclass
class Stack:
    """The shared cluster's Prometheus and alert inbox, through the API server's proxy."""

    cluster: Cluster
    traffic: dict[str, float] = field(default_factory=dict)
    stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.api = KubeCluster(self.cluster.api)

    def get(self, path: str) -> Any:
        return read_object(*self.api.fetch(path))

    def prometheus(self, path: str, **query: str) -> Any:
        base = "/api/v1/namespaces/monitoring/services/prometheus-operated:9090/proxy/api/v1/"
        return self.get(f"{base}{path}?{urlencode(query)}")["data"]

    def query(self, expr: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.prometheus("query", query=expr)["result"]
        return found

    def inbox(self, since: int) -> list[dict[str, Any]]:
        path = "/api/v1/namespaces/monitoring/services/alert-inbox:80/proxy/alerts.json"
        found: list[dict[str, Any]] = self.get(f"{path}?since={since}")["alerts"]
        return found

    def arrived(self, since: int, status: str, app: dict[str, str], alert: str) -> dict[str, Any] | None:
        for item in self.inbox(since):
            labels = item["labels"]
            if (item["status"], labels.get("alertname"), labels.get("namespace")) == (status, alert, app["namespace"]):
                return item
        return None

    def pods(self, app: dict[str, str]) -> list[str]:
        listed = self.cluster.core.list_namespaced_pod(app["namespace"], label_selector=f"app={app['name']}").items
        return sorted(pod.metadata.name for pod in listed if not pod.metadata.deletion_timestamp)

    def fault(self, app: dict[str, str], name: str, options: dict[str, float] | None, pods: list[str] | None = None) -> None:
        """Set a switch of the reference application in each pod, or clear it where *options* is None."""
        method = "DELETE" if options is None else "POST"
        for pod in pods or self.pods(app):
            path = f"/api/v1/namespaces/{app['namespace']}/pods/{pod}:5000/proxy/faults/{name}"
            read_object(*self.api.send(method, path, options))

    def ask(self, app: dict[str, str]) -> None:
        """Ask the application a few times a second until the test is over."""
        path = f"/api/v1/namespaces/{app['namespace']}/services/{app['name']}:80/proxy/"
        own = KubeCluster(self.cluster.api)
        while not self.stop.wait(0.2):
            try:
                own.fetch(path, None, 5)
            except Exception:  # an application that is down on purpose
                continue


def now() -> int:
    return int(time.time() * 1000)


def role(cluster: Cluster, tmp_path: Path, name: str, apps: list[dict[str, str]], *args: str, **extra: Any) -> Run:
    """Run a role for each of *apps*; *extra* are the role's options without their prefix, or variables that contain one."""
    play = tmp_path / f"{name}.yml"
    play.write_text(PLAY.format(role=name))
    variables = {key if key.startswith("app_monitoring_") else f"{name}_{key}": value for key, value in extra.items()}
    variables |= {"apps": apps, "cluster_kubeconfig": str(cluster.kubeconfig), "cluster_context": cluster.context}
    variables["ansible_python_interpreter"] = "{{ ansible_playbook_python }}"
    return playbook(str(play), *args, inventory=("-i", "localhost,", "-c", "local"), extra=variables)


@pytest.fixture(scope="module")
def target() -> Cluster:
    path = os.environ.get("CLUSTER_KUBECONFIG")
    assert path, "CLUSTER_KUBECONFIG is not set; run these tests by `molecule test`."
    return Cluster(Path(path), os.environ.get("CLUSTER_CONTEXT", "flaskops-test"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("plays")


@pytest.fixture(scope="module")
def stack(target: Cluster, folder: Path) -> Iterator[Stack]:
    """Both applications, deployed, watched and asked."""
    found = Stack(target)
    image = target.apps.read_namespaced_deployment("flask-app", "flask-app").spec.template.spec.containers[0].image
    environment = {"FLASKOPS_FAULTS": "1"}
    resources = {"requests": {"cpu": "20m", "memory": "96Mi"}, "limits": {"memory": "160Mi"}}
    run = role(target, folder, "flask_app", [SHOP, BLOG], image=image, environment=environment, resources=resources)
    assert run.changed == 2
    # Both have never been watched: check mode says what would be made, and makes nothing.
    assert role(target, folder, "app_monitoring", [SHOP], "--check", **PROFILE).changed == 1
    assert monitors(target, SHOP) == []
    assert role(target, folder, "app_monitoring", [SHOP], **PROFILE).changed == 1
    assert role(target, folder, "app_monitoring", [BLOG], literal_error_rate=True, **PROFILE).changed == 1
    for app in (SHOP, BLOG):
        threading.Thread(target=found.ask, args=(app,), daemon=True).start()
        selector = f'namespace="{app["namespace"]}", job="{app["name"]}"'
        # The kubelet brings a changed rule file into Prometheus' pod within a minute or so.
        wait_for(f"{app['name']} is read", lambda s=selector: len(found.query(f"up{{{s}}} == 1")) == 2, 180)
        wait_for(f"rules of {app['name']}", lambda a=app: rule_states(found, a), 180)
        wait_for("its probe", lambda a=app: found.query(f'probe_success{{namespace="{a["namespace"]}"}} == 1'), 120)
        wait_for("its requests", lambda s=selector: found.query(f"flask_http_request_total{{{s}}} > 5"), 120)
    yield found
    found.stop.set()
    # Twice, and nothing of ours is left.
    assert role(target, folder, "app_monitoring", [SHOP, BLOG], state="absent").changed == 2
    assert role(target, folder, "app_monitoring", [SHOP, BLOG], state="absent").changed == 0
    assert monitors(target, SHOP) == monitors(target, BLOG) == []
    for app in (SHOP, BLOG):
        target.core.delete_namespace(app["namespace"])


def monitors(target: Cluster, app: dict[str, str]) -> list[str]:
    """The kinds of the monitoring objects in an application's namespace."""
    custom = client.CustomObjectsApi(target.api)
    kinds = [("v1", "servicemonitors"), ("v1", "probes"), ("v1", "prometheusrules"), ("v1alpha1", "alertmanagerconfigs")]
    return [
        plural
        for version, plural in kinds
        if custom.list_namespaced_custom_object("monitoring.coreos.com", version, app["namespace"], plural)["items"]
    ]


def rule_states(stack: Stack, app: dict[str, str]) -> dict[str, str]:
    """The health of each alert rule of an application, once all have been evaluated."""
    groups = [g for g in stack.prometheus("rules")["groups"] if g["name"] == f"{app['name']}.alerts"]
    groups = [g for g in groups if app["namespace"] in g["file"]]
    found = {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}
    return {} if "unknown" in found.values() else found


def test_rules_are_evaluated_without_error(stack: Stack) -> None:
    wanted = {rule["alert"] for group in rules.rule_groups({}) for rule in group["rules"] if "alert" in rule}
    for app in (SHOP, BLOG):
        states = rule_states(stack, app)
        assert set(states) == wanted and set(states.values()) == {"ok"}


def test_second_run_and_check_mode_change_nothing(stack: Stack, target: Cluster, folder: Path) -> None:
    assert role(target, folder, "app_monitoring", [SHOP], **PROFILE).changed == 0
    assert role(target, folder, "app_monitoring", [SHOP], "--check", **PROFILE).changed == 0


def test_drift_is_found_and_repaired(stack: Stack, target: Cluster, folder: Path) -> None:
    custom = client.CustomObjectsApi(target.api)
    where = ("monitoring.coreos.com", "v1", SHOP["namespace"], "servicemonitors", SHOP["name"])
    custom.patch_namespaced_custom_object(*where, {"spec": {"sampleLimit": 6000}})
    assert role(target, folder, "app_monitoring", [SHOP], "--check", **PROFILE).changed == 1
    assert custom.get_namespaced_custom_object(*where)["spec"]["sampleLimit"] == 6000
    assert role(target, folder, "app_monitoring", [SHOP], **PROFILE).changed == 1
    assert custom.get_namespaced_custom_object(*where)["spec"]["sampleLimit"] == 5000


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"extra_rules": [{"alert": "Bad", "expr": "sum("}]}, "A rule of the application can't be used"),
    ({"app_monitoring_alerts": {"Nope": {}}}, "There is no alert Nope: use one of FlaskHighLatencyP95"),
    (
        {"receivers": [{"name": "x", "type": "slack", "channel": "#x", "secret": {"name": "no", "key": "k"}}]},
        "needs the Secret no",
    ),
    ({"receivers": [{"name": "x", "type": "pagerduty"}]}, "Receiver x of type pagerduty has no credentials"),
    ({"deployment": "other"}, "There is no Deployment other in namespace alerts-shop"),
    ({"metrics_port": 9999}, "No Service in namespace alerts-shop leads to port 9999"),
    ({"prometheus_name": "theirs"}, "There is no Prometheus object theirs"),
    ({"prober_url": "", "slo": 99.9}, "The SLO is 99.9"),
]


def test_refusal_changes_nothing(stack: Stack, target: Cluster, folder: Path) -> None:
    """All of it in one run: a host is a case."""

    def versions() -> list[str]:
        base = f"/apis/monitoring.coreos.com/v1/namespaces/{SHOP['namespace']}"
        paths = [f"{base}/{plural}/{SHOP['name']}" for plural in ("servicemonitors", "prometheusrules")]
        return [stack.get(path)["metadata"]["resourceVersion"] for path in paths]

    before = versions()
    own = {"name": SHOP["name"], "namespace": SHOP["namespace"], "kubeconfig": str(target.kubeconfig), "context": target.context}
    shared = {f"app_monitoring_{key}": value for key, value in own.items()} | PROFILE
    hosts = {
        f"case-{number}": {f"app_monitoring_{key.removeprefix('app_monitoring_')}": value for key, value in options.items()}
        for number, (options, _message) in enumerate(REFUSED)
    }
    _done, said = failures("app_monitoring", folder, hosts, shared=shared)
    for number, (options, message) in enumerate(REFUSED):
        assert message in " ".join(said[f"case-{number}"].split()), (options, said[f"case-{number}"])
    assert versions() == before


def test_each_metric_is_on_a_real_page(stack: Stack) -> None:
    """The names that the rules' own tests trust without having seen them."""
    listed = yaml.safe_load((ROOT / "tests/rules/known_metrics.yml").read_text())
    del listed["kube-state-metrics, in trouble"], listed["prometheus, about alerts"]
    wanted = {name for names in listed.values() for name in names}
    seen = set(stack.prometheus("label/__name__/values"))
    assert wanted - seen == set()


def test_labels_of_the_series(stack: Stack) -> None:
    own = f'namespace="{SHOP["namespace"]}", job="{SHOP["name"]}"'
    samples = [sample["metric"] for sample in stack.query(f"flask_http_request_duration_seconds_count{{{own}}}")]
    labels = {"route": "/", "app": "shop", "deployment": "shop", "method": "GET", "status": "200"}
    assert any(sample.items() >= labels.items() for sample in samples), samples
    # Made-up methods make no series.
    path = f"/api/v1/namespaces/{SHOP['namespace']}/pods/{stack.pods(SHOP)[0]}:5000/proxy/"
    stack.api.send("PROPFIND", path)
    assert stack.query(f'flask_http_request_total{{{own}, method!~"GET|POST|DELETE|HEAD"}}') == []
    assert stack.query(f'{{__name__=~"flask_.*_created", {own}}}') == []


def test_literal_names_are_scraped_for_the_literal_rule_only(stack: Stack) -> None:
    assert stack.query(f'http_requests_total{{namespace="{BLOG["namespace"]}", app="blog"}}')
    assert stack.query(f'flask_http_request_total{{namespace="{BLOG["namespace"]}", job="blog"}}')
    assert stack.query(f'http_requests_total{{namespace="{SHOP["namespace"]}"}}') == []


@pytest.mark.parametrize("app", [SHOP, BLOG], ids=lambda app: app["name"])
def test_every_query_of_the_dashboards_returns_a_series(stack: Stack, app: dict[str, str]) -> None:
    def empty() -> list[str]:
        found = dashboards.queries(dashboards.all_dashboards(), app["namespace"], app["name"], interval="2m")
        # A goal, or a threshold of an alert, that the application does not have.
        records = {
            rule["name"]
            for group in stack.prometheus("rules")["groups"]
            if group["name"].startswith(f"{app['name']}.")
            for rule in group["rules"]
        }
        found = [query for query in found if dashboards.recorded(query.expr) <= records]
        return [f"{query.dashboard} / {query.panel}: {query.expr}" for query in found if not stack.query(query.expr)]

    # A rate needs two scrapes, and the stack's own are 15 s apart.
    never, end = threading.Event(), time.monotonic() + 60
    while empty() and time.monotonic() < end:
        never.wait(2)
    assert empty() == []


def test_dashboards_are_shared(stack: Stack, target: Cluster) -> None:
    maps = target.core.list_config_map_for_all_namespaces(label_selector="grafana_dashboard=1").items
    ours = [item for item in maps if (item.metadata.labels or {}).get("app.kubernetes.io/managed-by") == "flaskops"]
    assert sorted(item.metadata.name for item in ours) == [
        "flaskops-monitoring-dashboard",
        "flaskops-routes-dashboard",
        "flaskops-service-dashboard",
    ]
    for item in ours:
        (content,) = item.data.values()
        assert json.loads(content)["uid"] == item.metadata.name.removesuffix("-dashboard")


def service_port(target: Cluster, app: dict[str, str], port: int) -> None:
    """Let the metrics Service lead to another port of the pods."""
    body = {"spec": {"ports": [{"name": "metrics", "port": 9200, "targetPort": port}]}}
    target.core.patch_namespaced_service(f"{app['name']}-metrics", app["namespace"], body)


@dataclass
class Fault:
    """How a fault is caused and repaired, what it adds to the latest time (a back-off, say), and an alert that may follow."""

    cause: Callable[[Stack], None]
    repair: Callable[[Stack], None]
    extra: float = 0
    app: dict[str, str] = field(default_factory=lambda: SHOP)
    also: str = ""


def set_all(name: str, app: dict[str, str] = SHOP, **options: float) -> Callable[[Stack], None]:
    return lambda stack: stack.fault(app, name, options)


def clear_all(name: str, app: dict[str, str] = SHOP) -> Callable[[Stack], None]:
    return lambda stack: stack.fault(app, name, None)


def crash_first(stack: Stack) -> None:
    stack.fault(SHOP, "crash", {"times": 20, "after": 0}, stack.pods(SHOP)[:1])


def delete_first(stack: Stack) -> None:
    stack.cluster.core.delete_namespaced_pod(stack.pods(SHOP)[0], SHOP["namespace"], grace_period_seconds=0)


def fill_memory(stack: Stack) -> None:
    stack.fault(BLOG, "memory", {"mb": 400, "seconds": 15}, stack.pods(BLOG)[:1])


FAULTS: dict[str, Fault] = {
    "FlaskTargetDown": Fault(
        lambda stack: service_port(stack.cluster, SHOP, 9999), lambda stack: service_port(stack.cluster, SHOP, 9200), extra=15
    ),
    "FlaskHighLatencyP95": Fault(set_all("latency", BLOG, delay=1), clear_all("latency", BLOG), extra=10, app=BLOG),
    # The second crash is the first that waits, and the kubelet's first wait is ten seconds.
    "FlaskPodCrashLooping": Fault(crash_first, delete_first, extra=STACK_SCRAPE + 30),
    "FlaskPodOOMKilled": Fault(fill_memory, lambda stack: None, extra=STACK_SCRAPE + 30, app=BLOG, also="FlaskPodCrashLooping"),
    "HighErrorRate": Fault(set_all("errors", ratio=0.5), clear_all("errors")),
    "HighErrorRate, literal": Fault(set_all("errors", BLOG, ratio=1), clear_all("errors", BLOG), app=BLOG),
    "FlaskUncaughtExceptions": Fault(set_all("errors", ratio=0.02), clear_all("errors"), extra=60),
    "FlaskHealthProbeFailed": Fault(set_all("health", BLOG, seconds=120), clear_all("health", BLOG), extra=20, app=BLOG),
}
# Two applications bear a fault at the same time. Those of the drill's own test are left to `make test-long`.
WAVES = [
    ("FlaskTargetDown", "FlaskHighLatencyP95"),
    ("FlaskPodCrashLooping", "FlaskPodOOMKilled"),
    pytest.param(("HighErrorRate", "HighErrorRate, literal"), marks=LONG),
    pytest.param(("FlaskUncaughtExceptions", "FlaskHealthProbeFailed"), marks=LONG),
]


@pytest.mark.parametrize("names", WAVES, ids=" and ".join)
def test_faults_are_told_and_their_ends_too(
    stack: Stack, names: tuple[str, ...], record_property: Callable[[str, object], None]
) -> None:
    own = {key.removeprefix("app_monitoring_"): value for key, value in PROFILE.items()}
    bounds = rules.detection_seconds({k: v for k, v in own.items() if k in rules.OPTIONS}, GROUP_WAIT)
    # Alertmanager reports an end only with its next look at the group: an alert that comes back before has never gone.
    loud = f'count_over_time(ALERTS{{namespace=~"alerts-.*", alertstate="firing"}}[{GROUP_INTERVAL + 10}s])'
    wait_for("quiet before the faults", lambda: not stack.query(loud), 300)
    began, told, repaired = now(), {}, {}
    for name in names:
        FAULTS[name].cause(stack)
    try:
        for name in names:
            alert, fault = name.split(",")[0], FAULTS[name]
            patience = 3 * bounds[alert][1] + fault.extra + 120
            told[name] = wait_for(f"{name} arrives", lambda a=alert, f=fault: stack.arrived(began, "firing", f.app, a), patience)
            fault.repair(stack)
            repaired[name] = now()
    finally:
        for name in set(names) - repaired.keys():
            FAULTS[name].repair(stack)
    for name in names:
        alert, fault, first = name.split(",")[0], FAULTS[name], told[name]
        assert first["labels"]["app"] == fault.app["name"] and first["labels"]["severity"] == rules.ALERTS[alert]["severity"]
        assert first["annotations"]["runbook_url"].endswith(f"/{alert}.md")
        over = wait_for(
            f"{name} resolves",
            lambda a=alert, f=fault, t=first["received_ms"]: stack.arrived(t, "resolved", f.app, a),
            300,
        )
        took, after = (first["received_ms"] - began) / 1000, (over["received_ms"] - repaired[name]) / 1000
        soonest, latest = bounds[alert]
        text = (
            f"{name}: told after {took:.0f} s, resolved {after:.0f} s after repair; configured: {soonest:.0f} to {latest:.0f} s"
        )
        text += f" from the symptom, which may need {fault.extra:.0f} s to show"
        print(f"\n{text}")
        record_property("detection", text)
    firing = [item["labels"] for item in stack.inbox(began) if item["status"] == "firing"]
    for name in names:
        alert, space = name.split(",")[0], FAULTS[name].app["namespace"]
        # The other application is another application.
        expected = {FAULTS[n].app["namespace"] for n in names if n.split(",")[0] == alert}
        found = {labels.get("namespace", "") for labels in firing if labels["alertname"] == alert}
        followed = {FAULTS[n].app["namespace"] for n in names if FAULTS[n].also == alert}
        assert expected <= found and found & {SHOP["namespace"], BLOG["namespace"]} <= expected | followed
        # One fault pages once: a container that is killed for its memory again and again is one page, that of the crash loop.
        mine = [labels for labels in firing if labels.get("namespace") == space]
        pages = {labels["alertname"] for labels in mine if labels.get("severity") == "critical"}
        assert len(pages) <= 1


def test_metrics_of_trouble_are_on_the_real_page(stack: Stack) -> None:
    """After the crashes above, the names that a healthy cluster does not have."""
    listed = yaml.safe_load((ROOT / "tests/rules/known_metrics.yml").read_text())
    wanted = {*listed["kube-state-metrics, in trouble"], *listed["prometheus, about alerts"]}
    assert wanted - set(stack.prometheus("label/__name__/values")) == set()

# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ways to break the shared cluster, which mend it again whatever happens, and what to wait for until the breakage is there.

The numbered cases (verify_cases) name them: WAYS by `break`, SIGNS by `until`.
"""

from __future__ import annotations

import base64
import datetime
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import cached_property
from typing import Any

from ansible_collections.flaskops.observability.plugins.module_utils.kube.objects import Objects
from ansible_collections.flaskops.observability.plugins.module_utils.kube.transport import ApiError, KubeCluster
from ansible_collections.flaskops.observability.plugins.module_utils.verify.chain import verify
from ansible_collections.flaskops.observability.plugins.module_utils.verify.run import Target

import tests.harness as harness
from tests.harness import Cluster

APP = "/apis/apps/v1/namespaces/{}/deployments/{}"
CORE = "/api/v1/namespaces/{}/{}/{}"
OPERATOR = "/apis/monitoring.coreos.com/v1/namespaces/{}/{}/{}"
PROMETHEUS = "/api/v1/namespaces/monitoring/services/prometheus-operated:9090/proxy/api/v1"
# The objects of the shared cluster by the names that cases give them; a case may give a path of the API server instead.
OBJECTS = {
    "app": APP.format("flask-app", "flask-app"),
    "service": CORE.format("flask-app", "services", "flask-app"),
    "metrics service": CORE.format("flask-app", "services", "flask-app-metrics"),
    "service monitor": OPERATOR.format("flask-app", "servicemonitors", "flask-app"),
    "rules": OPERATOR.format("flask-app", "prometheusrules", "flask-app"),
    "probe": OPERATOR.format("flask-app", "probes", "flask-app"),
    "routes": OPERATOR.format("flask-app", "alertmanagerconfigs", "flask-app").replace("/v1/", "/v1alpha1/"),
    "prometheus": OPERATOR.format("monitoring", "prometheuses", "kube-prometheus-stack-prometheus"),
    "alertmanager": OPERATOR.format("monitoring", "alertmanagers", "kube-prometheus-stack-alertmanager"),
    "alertmanager config": CORE.format("monitoring", "secrets", "kube-prometheus-stack-alertmanager-config"),
    "alert inbox": APP.format("monitoring", "alert-inbox"),
    "operator": APP.format("monitoring", "kube-prometheus-stack-operator"),
    "kube-state-metrics": APP.format("monitoring", "kube-prometheus-stack-kube-state-metrics"),
    "blackbox exporter": APP.format("monitoring", "prometheus-blackbox-exporter"),
    "dashboard": CORE.format("monitoring", "configmaps", "flaskops-service-dashboard"),
    "victoria logs": "/apis/apps/v1/namespaces/victoria-logs/statefulsets/victoria-logs",
    "collector": "/apis/apps/v1/namespaces/victoria-logs-node/daemonsets/victoria-logs-collector",
    "collector monitor": OPERATOR.format("victoria-logs-node", "servicemonitors", "victoria-logs-collector"),
    "fluent bit": "/apis/apps/v1/namespaces/logging/daemonsets/fluent-bit",
    "fluent bit monitor": OPERATOR.format("logging", "servicemonitors", "fluent-bit"),
}
# One of them ships the logs: Fluent Bit where FLUENT_BIT_IMAGE_ARCHIVE names its image.
AGENTS = ("collector", "fluent bit")
Json = dict[str, Any]


def path_of(name: str) -> str:
    return name if name.startswith("/") else OBJECTS[name]


def until(what: str, look: Callable[[], Any], seconds: float = 180) -> Any:
    """The first true answer of *look*; what is being broken or mended may not answer."""
    return harness.until(look, seconds, what, passing=(ApiError, ApiError))


class Bench:
    """The shared cluster, with ways to break it and to mend it again."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.objects = Objects(cluster.api)
        self.target = Target(kubeconfig=str(cluster.kubeconfig), context=cluster.context, notified_severities=[])

    def verify(self, timeout: float = 60, **options: Any) -> dict[str, Json]:
        results, _url = verify(KubeCluster(self.cluster.api), replace(self.target, timeout=timeout, **options))
        return {result["link"]: result for result in results}

    @cached_property
    def agent(self) -> str:
        """Which of AGENTS ships the logs of this cluster."""
        found = self.get(OBJECTS["fluent bit"].rsplit("/", 1)[0])["items"]
        return "fluent bit" if found else "collector"

    def whole(self, alert: bool = True) -> None:
        """Wait until no link is broken, with the test alert, which takes ten seconds, or without."""
        last: list[dict[str, str]] = []

        def healthy() -> bool:
            last[:] = [
                {k: r[k] for k in ("link", "cause")} for r in self.verify(alert_check=alert).values() if r["status"] == "failed"
            ]
            return not last

        try:
            until("the chain is whole", healthy, 300)
        except AssertionError as error:
            raise AssertionError(f"{error}: {last}") from error

    def get(self, path: str, query: dict[str, str] | None = None) -> Any:
        return self.objects.request("GET", path, query)

    def query(self, expr: str) -> list[Json]:
        found: list[Json] = self.get(f"{PROMETHEUS}/query", {"query": expr})["data"]["result"]
        return found

    def scraped(self) -> list[Json]:
        """What Prometheus knows of the app's metrics."""
        found = self.get(f"{PROMETHEUS}/targets", {"state": "active"})["data"]["activeTargets"]
        return [t for t in found if t["scrapePool"].startswith("serviceMonitor/flask-app/flask-app/")]

    def poke(self, namespace: str, selector: str) -> None:
        """Have kubelet look at these pods' volumes now, and not within the next minute or two."""
        for pod in self.cluster.core.list_namespaced_pod(namespace, label_selector=selector).items:
            self.cluster.core.patch_namespaced_pod(
                pod.metadata.name, namespace, {"metadata": {"annotations": {"flaskops/poked": str(time.time())}}}
            )

    def poking(self, selector: str, look: Callable[[], Any], namespace: str = "monitoring") -> Callable[[], Any]:
        """*look*, with the operator's change brought to these pods."""
        calls = iter(range(10**6))

        def looking() -> Any:
            if next(calls) % 10 == 4:  # every five seconds
                self.poke(namespace, selector)
            return look()

        return looking

    def settled(self, look: Callable[[], Any]) -> None:
        """Wait for something that goes through the operator to Prometheus."""
        until("Prometheus has it", self.poking("app.kubernetes.io/name=prometheus", look))

    @contextmanager
    def changed(self, path: str, change: Callable[[Json], None]) -> Iterator[None]:
        """An object with another content; its former one is put back."""
        before = self.get(path)
        changed = json.loads(json.dumps(before))
        change(changed)
        self.objects.request("PUT", path, None, changed, "application/json")
        try:
            yield
        finally:
            now = self.get(path)
            kept = {key: now[key] for key in ("metadata", "status") if key in now}
            kept["metadata"] |= {key: before["metadata"].get(key, {}) for key in ("labels", "annotations")}
            self.objects.request("PUT", path, None, {**before, **kept}, "application/json")

    @contextmanager
    def deleted(self, path: str) -> Iterator[None]:
        """An object that is gone; it is made again."""
        before = self.get(path)
        self.objects.request("DELETE", path)
        try:
            yield
        finally:
            for key in ("uid", "resourceVersion", "creationTimestamp", "managedFields", "generation"):
                before["metadata"].pop(key, None)
            until("it may be made again", lambda: self._made(path, before), 30)

    def _made(self, path: str, item: Json) -> bool:
        self.objects.request("POST", path.rsplit("/", 1)[0], None, item, "application/json")
        return True

    @contextmanager
    def stopped(self, path: str) -> Iterator[None]:
        """A workload without pods."""
        with self.changed(path, lambda item: item["spec"].update(replicas=0)):
            until(f"{path} stops", lambda: not self.get(path)["status"].get("replicas"), 90)
            yield


def _place(item: Any, pointer: str) -> tuple[Any, Any]:
    """What holds the place that a pointer such as `/spec/groups/name=a/rules/0` names, and its key there.

    A part with an equals sign is the entry of a list that has this value. All but the last part has to be there.
    """

    def key_of(holder: Any, part: str) -> Any:
        if not isinstance(holder, list):
            return part.replace("~1", "/").replace("~0", "~")
        name, equals, value = part.partition("=")
        return next(i for i, entry in enumerate(holder) if entry.get(name) == value) if equals else int(part)

    *way, last = pointer.strip("/").split("/")
    for part in way:
        item = item[key_of(item, part)]
    return item, key_of(item, last)


def edit(item: Json, *, put: Json | None = None, append: Json | None = None, remove: list[str] | None = None) -> None:
    """Change an object by pointers: what is *put* in a place, appended to a list there, and removed."""
    for pointer, value in (put or {}).items():
        holder, key = _place(item, pointer)
        holder[key] = value
    for pointer, value in (append or {}).items():
        holder, key = _place(item, pointer)
        holder.setdefault(key, []).append(value)
    for pointer in remove or []:
        holder, key = _place(item, pointer)
        del holder[key]


# The ways.


@contextmanager
def change(
    bench: Bench, of: str, put: Json | None = None, append: Json | None = None, remove: list[str] | None = None
) -> Iterator[None]:
    """An object is another one."""
    with bench.changed(path_of(of), lambda item: edit(item, put=put, append=append, remove=remove)):
        yield


@contextmanager
def delete(bench: Bench, of: str) -> Iterator[None]:
    with bench.deleted(path_of(of)):
        yield


@contextmanager
def stop(bench: Bench, of: str) -> Iterator[None]:
    """A workload has no pod."""
    with bench.stopped(path_of(of)):
        yield


@contextmanager
def create(bench: Bench, at: str, content: Json) -> Iterator[None]:
    """Something is there that was not; *at* is the path of its kind."""
    bench.objects.request("POST", at, None, content, "application/json")
    try:
        yield
    finally:
        bench.objects.request("DELETE", f"{at}/{content['metadata']['name']}")


@contextmanager
def silence(bench: Bench, **labels: str) -> Iterator[None]:
    """Somebody holds the alerts back whose labels match these regular expressions."""
    path = "/api/v1/namespaces/monitoring/services/alertmanager-operated:9093/proxy/api/v2"
    now = datetime.datetime.now(datetime.UTC)
    content = {
        "matchers": [{"name": name, "value": value, "isRegex": True, "isEqual": True} for name, value in labels.items()],
        "startsAt": now.isoformat(),
        "endsAt": (now + datetime.timedelta(hours=2)).isoformat(),
        "createdBy": "somebody",
        "comment": "too loud",
    }
    made = bench.objects.request("POST", f"{path}/silences", None, content, "application/json")["silenceID"]
    try:
        yield
    finally:
        status, text = bench.objects.cluster.send("DELETE", f"{path}/silence/{made}")  # which answers with nothing
        assert status == 200, text


@contextmanager
def dashboard(bench: Bench, text: str, by: str) -> Iterator[None]:
    """A text of the dashboard is another one."""

    def replaced(item: Json) -> None:
        ((name, board),) = item["data"].items()
        assert text in board
        item["data"] = {name: board.replace(text, by)}

    with bench.changed(OBJECTS["dashboard"], replaced):
        yield


@contextmanager
def alertmanager_config(bench: Bench, edits: dict[str, str]) -> Iterator[None]:
    """Another configuration of Alertmanager: the first match of each pattern is replaced."""
    selector = "app.kubernetes.io/name=alertmanager"

    def changed(secret: Json) -> None:
        text = base64.b64decode(secret["data"]["alertmanager.yaml"]).decode()
        for pattern, by in edits.items():
            text, count = re.subn(pattern, by, text, count=1)
            assert count == 1, pattern
        secret["data"]["alertmanager.yaml"] = base64.b64encode(text.encode()).decode()

    def config() -> list[str]:
        # Its page of the configuration hides what may be a secret, the receivers' addresses among it.
        return [series["value"][1] for series in bench.query("alertmanager_config_hash")]

    before = until("Alertmanager tells its configuration", config)
    try:
        with bench.changed(OBJECTS["alertmanager config"], changed):
            until("Alertmanager has it", bench.poking(selector, lambda: config() not in ([], before)))
            yield
    finally:
        until("Alertmanager is as before", bench.poking(selector, lambda: config() == before))


@contextmanager
def on_call(bench: Bench, edits: dict[str, str] | None = None) -> Iterator[None]:
    """Somebody is notified of every alert that no route takes, by Alertmanager's own configuration with *edits* beside it."""
    hook = "http://alert-inbox.monitoring.svc:80/alerts"  # it takes what it gets, or the row of the receivers would say so
    known = {
        r"(?m)^  receiver: .*$": '  receiver: "on-call"',
        r'(?m)^  - name: "none"$': f'  - name: "none"\n  - name: "on-call"\n    webhook_configs: [{{url: "{hook}"}}]',
    }
    with alertmanager_config(bench, known | (edits or {})):
        yield


@contextmanager
def victoria_logs_flags(bench: Bench, flags: list[str]) -> Iterator[None]:
    """The pod of VictoriaLogs has these flags too, of which the last of a name counts."""
    path = OBJECTS["victoria logs"]

    def settled(generation: int) -> Callable[[], bool]:
        def look() -> bool:
            status = bench.get(path)["status"]
            updated = status.get("currentRevision") == status.get("updateRevision") and status.get("readyReplicas") == 1
            return bool(status["observedGeneration"] > generation and updated)

        return look

    names = [flag.partition("=")[0] for flag in flags]

    def changed(item: Json) -> None:
        args = item["spec"]["template"]["spec"]["containers"][0]["args"]
        args[:] = [arg for arg in args if arg.partition("=")[0] not in names] + flags

    generation = bench.get(path)["metadata"]["generation"]
    with bench.changed(path, changed):
        until("its new pod runs", settled(generation))
        yield
    until("its pod of before runs", settled(generation + 1))


SKEWED = """\
import time
seconds, nanoseconds = time.time, time.time_ns
time.time = lambda: seconds() - 3600
time.time_ns = lambda: nanoseconds() - 3600 * 10**9
"""


@contextmanager
def inbox_clock_behind(bench: Bench) -> Iterator[None]:
    """The receiver's clock is an hour behind. The machine's own can't be set in a test."""
    maps = "/api/v1/namespaces/monitoring/configmaps"

    def changed(item: Json) -> None:
        pod = item["spec"]["template"]["spec"]
        pod["volumes"] = [{"name": "skew", "configMap": {"name": "verify-skew"}}]
        pod["containers"][0]["volumeMounts"] = [{"name": "skew", "mountPath": "/skew"}]
        pod["containers"][0]["env"] = [{"name": "PYTHONPATH", "value": "/skew"}]

    def inbox_time() -> float:
        path = "/api/v1/namespaces/monitoring/services/alert-inbox:80/proxy/alerts.json"
        return datetime.datetime.fromisoformat(bench.get(path, {"since": "0"})["now"]).timestamp()

    content = {"metadata": {"name": "verify-skew"}, "data": {"sitecustomize.py": SKEWED}}
    bench.objects.request("POST", maps, None, content, "application/json")
    try:
        with bench.changed(OBJECTS["alert inbox"], changed):
            until("its clock is behind", lambda: time.time() - inbox_time() > 3000)
            yield
    finally:
        bench.objects.request("DELETE", f"{maps}/verify-skew")
        until("its clock is right", lambda: abs(time.time() - inbox_time()) < 60)


WAYS: dict[str, Callable[..., AbstractContextManager[None]]] = {
    way.__name__: way
    for way in (
        change,
        delete,
        stop,
        create,
        silence,
        dashboard,
        alertmanager_config,
        on_call,
        victoria_logs_flags,
        inbox_clock_behind,
    )
}


# The signs: what shows that the breakage is there. What runs on is as before until its controller has looked.


def no_endpoints(bench: Bench) -> bool:
    slices = "/apis/discovery.k8s.io/v1/namespaces/flask-app/endpointslices"
    own = {"labelSelector": "kubernetes.io/service-name=flask-app"}
    return not any(item["endpoints"] for item in bench.get(slices, own)["items"])


def _statuses(bench: Bench) -> list[Any]:
    pods = bench.cluster.core.list_namespaced_pod("flask-app", label_selector="app=flask-app").items
    return [status for pod in pods for status in pod.status.container_statuses or []]


def pod_waits(bench: Bench, reasons: list[str]) -> bool:
    """A container of the app waits for one of these reasons."""
    waiting = [status.state.waiting for status in _statuses(bench)]
    return any(state and state.reason in reasons for state in waiting)


def pod_unready(bench: Bench) -> bool:
    """A container of the app runs and is not ready."""
    return any(not status.ready and status.state.running for status in _statuses(bench))


def app_rolled_out(bench: Bench) -> bool:
    item = bench.get(OBJECTS["app"])
    status, wanted = item["status"], item["spec"]["replicas"]
    counts = [status.get(key) for key in ("replicas", "updatedReplicas", "availableReplicas")]
    return bool(status["observedGeneration"] >= item["metadata"]["generation"] and counts == [wanted] * 3)


def log_agent_gone(bench: Bench) -> bool:
    return not bench.get(OBJECTS[bench.agent])["status"]["currentNumberScheduled"]


def log_agent_rolled_out(bench: Bench) -> bool:
    item = bench.get(OBJECTS[bench.agent])
    status = item["status"]
    updated = status.get("updatedNumberScheduled") == status.get("numberReady") == 1
    return bool(status["observedGeneration"] >= item["metadata"]["generation"] and updated)


def pool(bench: Bench, begins: str) -> bool:
    """Prometheus has scraped a target of a pool whose name begins so."""
    found = bench.get(f"{PROMETHEUS}/targets", {"state": "active"})["data"]["activeTargets"]
    return any(t["scrapePool"].startswith(begins) and t["health"] == "up" for t in found)


def no_targets(bench: Bench) -> bool:
    return not bench.scraped()


def scrape_error(bench: Bench, text: str) -> bool:
    return any(text in target["lastError"] for target in bench.scraped())


def no_series(bench: Bench, query: str) -> bool:
    return not bench.query(query)


def _rule_groups(bench: Bench) -> list[Json]:
    found: list[Json] = bench.get(f"{PROMETHEUS}/rules")["data"]["groups"]
    return [group for group in found if "/flask-app-flask-app-" in group["file"]]


def no_rules(bench: Bench) -> bool:
    return not _rule_groups(bench)


def rule_error(bench: Bench) -> bool:
    return any(rule.get("lastError") for group in _rule_groups(bench) for rule in group["rules"])


def rule_loaded(bench: Bench, alert: str, **has: Any) -> bool:
    """Prometheus evaluates an alert of the app that has this."""
    rules = [rule for group in _rule_groups(bench) for rule in group["rules"] if rule["name"] == alert]
    wanted = has.pop("labels", {}).items()
    return any(wanted <= rule["labels"].items() and all(rule[key] == value for key, value in has.items()) for rule in rules)


def no_alertmanager(bench: Bench) -> bool:
    return not bench.get(f"{PROMETHEUS}/alertmanagers")["data"]["activeAlertmanagers"]


def no_pods(bench: Bench, namespace: str, selector: str) -> bool:
    return not bench.get(f"/api/v1/namespaces/{namespace}/pods", {"labelSelector": selector})["items"]


def grows_old(_bench: Bench, by: float) -> bool:
    """So many seconds have passed, as for lines that nobody takes."""
    threading.Event().wait(by)
    return True


SIGNS: dict[str, Callable[..., bool]] = {
    sign.__name__: sign
    for sign in (
        no_endpoints,
        pod_waits,
        pod_unready,
        app_rolled_out,
        log_agent_gone,
        log_agent_rolled_out,
        pool,
        no_targets,
        scrape_error,
        no_series,
        no_rules,
        rule_error,
        rule_loaded,
        no_alertmanager,
        no_pods,
        grows_old,
    )
}

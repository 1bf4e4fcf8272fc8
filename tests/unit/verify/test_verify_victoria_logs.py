# Copyright: (c) flaskops contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What verify says of VictoriaLogs, with the real program on loopback; the API server's proxy is played as it behaves."""

from __future__ import annotations

import base64
import json
import re
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from types import SimpleNamespace

import pytest
from ansible_collections.flaskops.observability.plugins.module_utils.credentials.guard import basic
from ansible_collections.flaskops.observability.plugins.module_utils.kube import transport
from ansible_collections.flaskops.observability.plugins.module_utils.verify import log_stores, queries
from ansible_collections.flaskops.observability.plugins.module_utils.verify import run as running
from ansible_collections.flaskops.observability.plugins.module_utils.verify.chain import verify
from ansible_collections.flaskops.observability.plugins.module_utils.verify.links import log_agent, log_store

from tests.fakes.certificates import certificate
from tests.toolchain import programs
from tests.unit.victoria_logs.test_collector import c as collecting
from tests.victoria_logs import VictoriaLogs

from .test_verify_checks import pod
from .test_verify_links import STREAM, FakeCluster, shipper

HOST = "vl.logs.svc"
BASE = "/api/v1/namespaces/logs/services/{}vl:9428/proxy"
SECRETS = "/api/v1/namespaces/logs/secrets"
PASSWORD = "CANARY pässword"
FULL = str(1 << 60)  # bytes: more than any disk has


def secret(**values):
    return 200, {"data": {key.replace("_", "."): base64.b64encode(value.encode()).decode() for key, value in values.items()}}


class Program(VictoriaLogs):
    """VictoriaLogs as it was started with these flags, beside a Service's annotations."""

    def __init__(self, folder, login=False, tls=False, **flags):
        self.secrets, self.annotations, self.ca = {}, {}, None
        self.headers = {}
        if login:
            (folder / "password").write_text(PASSWORD)
            flags |= {"httpAuth.username": "ann", "httpAuth.password": f"file://{folder}/password"}
            self.headers["Authorization"] = basic("ann", PASSWORD)
            self.annotations[log_stores.LOGIN] = "vl-login"
            self.secrets[f"{SECRETS}/vl-login"] = secret(username="ann", password=PASSWORD)
        if tls:
            self.ca, key = certificate(HOST, "127.0.0.1")
            (folder / "crt").write_text(self.ca)
            (folder / "key").write_text(key)
            flags |= {"tls": "true", "tlsCertFile": folder / "crt", "tlsKeyFile": folder / "key"}
            self.annotations[log_stores.TLS] = "vl-tls"
            self.secrets[f"{SECRETS}/vl-tls"] = secret(ca_crt=self.ca)
        super().__init__(folder / "data", "https" if tls else "http", **flags)
        self.wait()

    def ask(self, path, body=None, headers=None):
        """What it answers, whatever its certificate is: so does the API server's proxy."""
        request = urllib.request.Request(self.url + path, body, headers or {})
        try:
            with urllib.request.urlopen(request, timeout=5, context=self.context) as reply:
                return reply.status, reply.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def push(self, text, at=None):
        labels, kind = ",".join(STREAM), {"Content-Type": "application/stream+json", **self.headers}
        line = {"_time": at or time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "_msg": text, **STREAM}
        status, _ = self.ask(f"/insert/jsonline?_stream_fields={labels}", json.dumps(line).encode(), kind)
        assert status == 200
        self.ask("/internal/force_flush", None, self.headers)


@pytest.fixture
def victoria(tmp_path):
    started = []

    def start(**options):
        started.append(Program(tmp_path, **options))
        return started[-1]

    yield start
    for program in started:
        program.stop()


class Near(FakeCluster):
    """An API server before the real program; what the application logs arrives there."""

    def __init__(self, program, **answers):
        self.program = program
        metadata = {"name": "vl", "namespace": "logs", "annotations": program.annotations}
        spec = {"ports": [{"port": 9428, "targetPort": "http"}], "selector": {"app": "vl"}}
        super().__init__({"victoria-logs-single": {"metadata": metadata, "spec": spec}}, **{**program.secrets, **answers})
        self.base = BASE.format("https:" if program.ca else "")
        self.ships = True
        self.dialled = 0

    def fetch(self, path, headers=None, seconds=10):
        if path.startswith(self.base):
            assert "Authorization" not in (headers or {})
            try:
                return self.program.ask(path.removeprefix(self.base))
            except OSError:
                return 503, json.dumps({"message": 'no endpoints available for service "vl"'})
        if self.ships and "X-Request-ID" in (headers or {}):
            self.program.push(f"request {headers['X-Request-ID']}")
        return super().fetch(path, headers, seconds)

    def dial(self, service, seconds):
        self.dialled += 1
        assert service["metadata"]["name"] == "vl"
        try:
            return socket.create_connection(("127.0.0.1", self.program.port), timeout=seconds)
        except OSError as error:
            raise transport.ApiError(503, "no pod of the Service vl is ready") from error


def found(cluster, **options):
    results, _url = verify(cluster, running.Target(**{"timeout": 10, **options}))
    said = json.dumps(results, ensure_ascii=False)
    assert PASSWORD not in said and base64.b64encode(f"ann:{PASSWORD}".encode()).decode() not in said
    return {result["link"]: result for result in results}


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("login", [False, True], ids=["open", "login"])
def test_a_line_is_found_over_each_way(victoria, login, tls):
    cluster = Near(victoria(login=login, tls=tls))
    result = found(cluster)["victoria_logs"]
    assert result["status"] == "ok", result["cause"]
    assert cluster.dialled == login  # the proxy does without a permission for port-forwards


def test_an_idle_connection_that_ended_is_made_again(victoria):
    cluster = Near(victoria(login=True))
    way = log_stores.Way(cluster, cluster.stores["victoria-logs-single"])
    assert way.fetch("/metrics", 5)[0] == 200
    way._connection.sock.shutdown(socket.SHUT_RDWR)
    assert way.fetch("/metrics", 5)[0] == 200 and cluster.dialled == 2
    way.close()


def test_victoria_logs_down(victoria):
    for options in ({}, {"login": True}):
        program = victoria(**options)
        program.stop()
        cluster = Near(program)
        cluster.ships = False
        assert "503" in (cause := found(cluster)["victoria_logs"]["cause"]) or "is ready" in cause


def test_victoria_logs_read_only(victoria):
    cluster = Near(victoria(**{"storage.minFreeDiskSpaceBytes": FULL}))
    cluster.ships = False
    assert "read-only" in found(cluster)["victoria_logs"]["cause"]


@pytest.mark.parametrize(
    ("answers", "cause"),
    [
        ({f"{SECRETS}/vl-login": secret(username="ann", password="other")}, "does not take the one in Secret vl-login"),
        ({f"{SECRETS}/vl-login": secret(username="ann")}, "Secret vl-login of namespace logs can't be read: lacks password"),
        ({f"{SECRETS}/vl-login": (403, {"message": "forbidden"})}, "can't be read: forbidden"),
        ({f"{SECRETS}/vl-tls": secret(ca_crt=certificate("other")[0])}, "CERTIFICATE_VERIFY_FAILED"),
    ],
)
def test_a_wrong_login_or_certificate(victoria, answers, cause):
    result = found(Near(victoria(login=True, tls=True), **answers))["victoria_logs"]
    assert cause in result["cause"]


def test_a_login_of_somebody_else_is_asked_for(victoria):
    program = victoria(login=True)
    program.annotations.clear()
    assert "verify_log_backends" in found(Near(program))["victoria_logs"]["cause"]


class Pages:
    """A Prometheus of which the increase is what the program's page has."""

    absent = ""

    def __init__(self, program):
        self.program = program

    def check_open(self, path, said):
        """It is open."""

    def query(self, expr):
        name = re.search(r"increase\((\w+)", expr)[1]
        _, page = self.program.ask("/metrics", None, self.program.headers)
        rows = re.findall(rf'^{name}{{reason="(\w+)"}} ([1-9]\d*)$', page, re.MULTILINE)
        return [{"metric": {"reason": reason}, "value": [0, value]} for reason, value in rows]


@pytest.mark.parametrize(
    ("at", "cause"), [("2020-01-01T00:00:00Z", "1 older than its retention"), ("2090-01-01T00:00:00Z", "1 too far ahead")]
)
def test_rows_dropped(victoria, at, cause):
    program = victoria()

    def look():
        run = running.Run(Near(program), running.Target(timeout=3))
        run.prepare()
        run.stack = Pages(program)
        (result,) = log_store.look(run)
        return result

    assert look().status == "ok"
    program.push("dropped", at)
    # Its page is made again once in a while only.
    pages, never, until = Pages(program), threading.Event(), time.monotonic() + 10
    while not pages.query("increase(vl_rows_dropped_total") and time.monotonic() < until:
        never.wait(0.1)
    assert cause in look().cause


@pytest.mark.parametrize(
    ("wrong", "cause"),
    [("login", "a wrong login, and its log says: .* 401"), ("address", "does not reach it, and its log says: .* refused")],
)
def test_an_agent_that_is_stuck_on_one_node(victoria, tmp_path, monkeypatch, wrong, cause):
    """The line of the application arrives by the agent of node-1; the one of node-2 delivers nothing."""
    program = victoria(login=True)
    access = tmp_path / "access"
    access.mkdir()
    (access / "username").write_text("ann")
    (access / "password").write_text("old" if wrong == "login" else PASSWORD)
    said = []
    monkeypatch.setattr(collecting, "say", said.append)
    monkeypatch.setattr(log_agent, "WAITING", 0.1)
    monkeypatch.setattr(running, "SETTLE", 1)
    url = program.url if wrong == "login" else "http://127.0.0.1:1"
    agent = collecting.Collector(tmp_path / "pods", tmp_path / "state", url, "test", "node-2", 1 << 20, 1e9, access)
    batch = collecting.Batch("test", "node-2")
    batch.add(collecting.Record("shop_web-1_uid/web", "stdout", time.time_ns(), "hello"), "web")
    agent.spool.put(batch)
    sender = threading.Thread(target=agent.sender)
    sender.start()
    never = threading.Event()
    while not said:
        never.wait(0.05)
    never.wait(0.3)

    pods = [pod(f"agent-{number}", node=f"node-{number}") for number in (1, 2)]
    for item in pods:
        item["metadata"]["namespace"] = "logging"
    item = shipper("log-collector", desiredNumberScheduled=2, numberReady=2)
    page = "/api/v1/namespaces/logging/pods/agent-{}:2020/proxy/metrics"
    answers = {
        "/apis/apps/v1/daemonsets": (200, {"items": [item]}),
        "/api/v1/namespaces/logging/pods": (200, {"items": pods}),
        page.format(1): (200, "log_collector_spool_oldest_seconds 0\nlog_collector_spool_bytes 0\n"),
        page.format(2): (200, agent.metrics()),
        "/api/v1/namespaces/logging/pods/agent-2/log": (200, "\n".join(["it began", *said])),
    }
    try:
        results = found(Near(program, **answers))
    finally:
        agent.stopping.set()
        sender.join()
    assert results["victoria_logs"]["status"] == "ok", results["victoria_logs"]["cause"]
    result = results["log agent"]
    assert re.search(f"agent-2 on node node-2, though VictoriaLogs is ready: it (has )?{cause}", result["cause"]), result["cause"]


def test_the_collector_logs_in_over_tls(victoria, tmp_path):
    program = victoria(login=True, tls=True)
    access = tmp_path / "access"
    access.mkdir()
    for name, value in (("username", "ann"), ("password", PASSWORD), ("ca.crt", program.ca)):
        (access / name).write_text(value)
    agent = collecting.Collector(tmp_path / "pods", tmp_path / "state", program.url, "test", "node-1", 1 << 20, 1e9, access)
    assert agent._ask("GET", "/metrics")[0] == 200
    (access / "password").write_text("old")
    assert agent._ask("GET", "/metrics")[0] == 401
    (access / "ca.crt").write_text(certificate("other")[0])
    status, why = agent._ask("GET", "/metrics")
    assert status < 1 and "CERTIFICATE_VERIFY_FAILED" in why


IDLERS = """
rule_files: []
evaluation_interval: 15s
tests:
  - interval: 15s
    input_series:
      - {series: 'fluentbit_output_retries_total{namespace="n", pod="stuck", name="a"}', values: "0+1x20"}
      - {series: 'fluentbit_output_proc_records_total{namespace="n", pod="stuck", name="a"}', values: "7x20"}
      - {series: 'fluentbit_output_retries_total{namespace="n", pod="well", name="a"}', values: "0+1x20"}
      - {series: 'fluentbit_output_proc_records_total{namespace="n", pod="well", name="a"}', values: "0+5x20"}
      - {series: 'fluentbit_output_retries_total{namespace="n", pod="half", name="a"}', values: "0+1x20"}
      - {series: 'fluentbit_output_proc_records_total{namespace="n", pod="half", name="a"}', values: "0x20"}
      - {series: 'fluentbit_output_proc_records_total{namespace="n", pod="half", name="b"}', values: "0+5x20"}
      - {series: 'log_collector_unread_bytes{namespace="n", pod="blind"}', values: "100+1x20"}
      - {series: 'log_collector_records_total{namespace="n", pod="blind"}', values: "7x20"}
      - {series: 'log_collector_unread_bytes{namespace="n", pod="busy"}', values: "100+1x20"}
      - {series: 'log_collector_records_total{namespace="n", pod="busy"}', values: "0+9x20"}
      - {series: 'log_collector_unread_bytes{namespace="n", pod="quiet"}', values: "0x20"}
      - {series: 'log_collector_records_total{namespace="n", pod="quiet"}', values: "7x20"}
      - {series: 'fluentbit_output_retries_total{namespace="other", pod="stuck", name="a"}', values: "0+1x20"}
    promql_expr_test:
      - expr: EXPR
        eval_time: 5m
        exp_samples:
          - {labels: '{pod="stuck"}', value: 1}
          - {labels: '{pod="half"}', value: 1}
          - {labels: '{pod="blind"}', value: 1}
"""


def test_an_agent_that_works_is_not_idle(tmp_path):
    expr = f"count by (pod) ({queries.filled('idle', namespace='n')})"
    promtool(tmp_path, IDLERS, expr)


def promtool(folder, test, expr):
    (folder / "test.yml").write_text(test.replace("EXPR", json.dumps(expr)))
    command = [str(programs("prometheus") / "promtool"), "test", "rules", str(folder / "test.yml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


# Fluent Bit shows both with the same labels.
LOSERS = """
evaluation_interval: 15s
tests:
  - interval: 15s
    input_series:
      - {series: 'fluentbit_output_dropped_records_total{namespace="n", pod="agent-abcde", name="o"}', values: "0x20 10x20"}
      - {series: 'fluentbit_output_retries_failed_total{namespace="n", pod="agent-abcde", name="o"}', values: "0x40"}
      - {series: 'log_collector_rejected_records_total{namespace="other", pod="b"}', values: "0+10x40"}
      - {series: 'fluentbit_output_retries_failed_total{namespace="n", pod="agent-extra-abcde", name="o"}', values: "0+9x40"}
    promql_expr_test:
      - {expr: EXPR, eval_time: 4m, exp_samples: []}
      - {expr: EXPR, eval_time: 10m, exp_samples: [{labels: '{}', value: 10}]}
"""


def test_what_an_agent_gave_up_is_added_up(tmp_path):
    expr = f"round({queries.filled('given_up', namespace='n', name='agent')})"
    promtool(tmp_path, LOSERS, expr)


def test_an_agent_that_delivers_nothing_by_its_counters():
    """As Prometheus has it: Fluent Bit tells no age of what waits."""
    item = shipper(desiredNumberScheduled=2, numberReady=2)
    pods = [pod(f"fluent-bit-{number}", node=f"node-{number}") for number in (1, 2)]
    for each in pods:
        each["metadata"]["namespace"] = "logging"
    page = "/api/v1/namespaces/logging/pods/fluent-bit-{}:2020/proxy/api/v2/metrics/prometheus"
    base = BASE.format("")
    answers = {
        "/api/v1/namespaces/logging/pods": (200, {"items": pods}),
        "/apis/monitoring.coreos.com/v1/namespaces/logging/servicemonitors": (200, {"items": []}),
        "/api/v1/namespaces/logging/pods/fluent-bit-2/log": (
            200,
            "[error] [output:loki:vl] vl:9428, HTTP status=401 Not",
        ),
        f"{base}/health": (200, "OK"),
        f"{base}/metrics": (200, "vl_storage_is_read_only 0"),
        **{page.format(number): (200, "fluentbit_uptime 5\n") for number in (1, 2)},
    }
    service = {"metadata": {"name": "vl", "namespace": "logs"}, "spec": {"ports": [{"port": 9428}]}}
    run = running.Run(FakeCluster({"victoria-logs-single": service}, **answers), running.Target())
    asked = []

    def query(expr):
        asked.append(expr)
        return [{"metric": {"pod": "fluent-bit-2"}, "value": [0, "3"]}] if "retries_total" in expr else []

    run.stack = SimpleNamespace(query=query, absent="", check_open=lambda path, said: None)
    _evidence, cause, _asked = log_agent._agent(run, item)
    assert cause.startswith("fluent-bit-2 on node node-2 has delivered none") and "a wrong login" in cause
    assert any('fluentbit_output_retries_total{namespace="logging"}' in expr for expr in asked)


def test_an_output_that_delivers_nothing_is_named_with_its_own_complaint():
    """VictoriaLogs gets its lines, CloudWatch none."""
    item = shipper(desiredNumberScheduled=1, numberReady=1)
    item["metadata"].setdefault("annotations", {})["flaskops/outputs"] = json.dumps(
        [{"name": "victoria_logs", "type": "victoria_logs"}, {"name": "audit_logs", "type": "cloudwatch_logs"}]
    )
    one = pod("fluent-bit-1", node="node-1")
    one["metadata"]["namespace"] = "logging"
    one["spec"]["containers"] = [{"name": "victoria-logs", "ports": []}, {"name": "audit-logs", "ports": []}]
    logs = "/api/v1/namespaces/logging/pods/fluent-bit-1/log"

    class Agents(FakeCluster):
        def fetch(self, path, headers=None, seconds=10):
            if path.startswith(logs):
                mine = "container=audit-logs" in path
                return 200, "[ warn] [engine] failed to flush chunk, HTTP status=403" if mine else "[error] somebody else's"
            return super().fetch(path, headers, seconds)

    item["spec"]["template"]["spec"]["containers"] = [{"ports": [{"name": "metrics", "containerPort": 2020}]}]
    answers = {
        "/api/v1/namespaces/logging/pods": (200, {"items": [one]}),
        "/apis/monitoring.coreos.com/v1/namespaces/logging/servicemonitors": (200, {"items": []}),
        "/api/v1/namespaces/logging/pods/fluent-bit-1:2020/proxy/api/v2/metrics/prometheus": (200, "fluentbit_uptime 5\n"),
    }
    run = running.Run(Agents({}, **answers), running.Target())

    def query(expr):
        return [{"metric": {"pod": "fluent-bit-1", "name": "audit_logs"}, "value": [0, "3"]}] if "retries_total" in expr else []

    run.stack = SimpleNamespace(query=query, absent="", check_open=lambda path, said: None)
    _evidence, cause, _asked = log_agent._agent(run, item)
    assert cause.startswith("fluent-bit-1 on node node-1 has delivered none of its lines to audit_logs")
    assert "VictoriaLogs" not in cause and "a wrong login" in cause and "somebody else" not in cause


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("[error] [output:loki:vl] vl:9428, HTTP status=401 Not", True),
        ("VictoriaLogs did not take a batch, which is sent again until it does: 403 no", True),
        ("[upstream] connection #403 to vl:9428 timed out", False),
        ("[ warn] [engine] failed to flush chunk, retry in 403 seconds", False),
    ],
)
def test_only_a_status_is_a_wrong_login(line, wrong):
    assert bool(log_agent.REFUSED.search(line)) == wrong


def test_all_who_ask_a_back_end_share_one_way():
    service = {"metadata": {"name": "vl", "namespace": "logs"}, "spec": {"ports": [{"port": 9428}]}}
    run = running.Run(FakeCluster({}), running.Target())
    assert run.way(service) is run.way(dict(service))


def test_what_a_back_end_says_of_the_login_is_hidden_before_it_is_cut():
    service = {"metadata": {"name": "vl", "namespace": "logs"}, "spec": {"ports": [{"port": 9428}]}}
    way = log_stores.Way(FakeCluster({}, **{BASE.format(""): (500, "")}), service)
    way.cluster = SimpleNamespace(fetch=lambda *_: (500, "x" * 190 + "ann:CANARY-pa55"))
    way.secrets = ["CANARY-pa55", "ann:CANARY-pa55"]
    _status, text = way.fetch("/metrics", 5)
    assert "CANARY" not in text[:200]
